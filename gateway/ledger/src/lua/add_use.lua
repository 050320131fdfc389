-- What a request to a model has used, or more of it. Once for each part of a request; a repeat changes nothing.
-- A: request, part (from 1), uid, owner, its key, turn ('' for none), days that usage is kept, model; then
-- kind, count, …. What is used after midnight is used on the next day. A model's name may be the caller's own: an owner has
-- 100 of them a day, and 10,000 rows of a unit and a model; what is beyond is counted as `other`.
local request, part, uid, owner, owner_key, turn, days, model = A[1], A[2], A[3], A[4], A[5], A[6], num(A[7]), A[8]
if redis.call('HSETNX', 'used:' .. request, part, '1') == 0 then return { 'repeat' } end
redis.call('EXPIRE', 'used:' .. request, 300)
local day = math.floor(NOW / 86400000)
local keep = int((day + days + 1) * 86400)
local of_day = 'usage:' .. int(day)
local of_owner = of_day .. ':' .. owner_key
local of_units, of_turn = of_owner .. ':units', 'turn:' .. turn
local has_turn = turn ~= '' and redis.call('EXISTS', of_turn) == 1
local function has_row(key, row, count, most)
  if redis.call('HEXISTS', key, row .. '|requests') == 1 then return true end
  if num(redis.call('HGET', key, count)) >= most then return false end
  redis.call('HINCRBY', key, count, 1)
  redis.call('HSET', key, row .. '|requests', '0')
  return true
end
local named = has_row(of_owner, model, '|rows', 100) and has_row(of_units, uid .. '|' .. model, '||rows', 10000)
if not named then model = 'other' end
for i = 9, #A, 2 do
  local kind, count = A[i], A[i + 1]
  if kind == 'tokens' or kind == 'cost' then
    redis.call('HINCRBY', of_owner, '|' .. kind, count)
    redis.call('HINCRBY', of_units, uid .. '||' .. kind, count)
    -- A turn's hash that is over its time must not come back.
    if has_turn then redis.call('HINCRBY', of_turn, 'used_' .. kind, count) end
  end
  if kind ~= 'tokens' then
    redis.call('HINCRBY', of_owner, model .. '|' .. kind, count)
    redis.call('HINCRBY', of_units, uid .. '|' .. model .. '|' .. kind, count)
  end
end
-- The names stay when the unit is erased.
local name = redis.call('HGET', 'unit:' .. uid, 'name')
if name then redis.call('HSETNX', of_units, uid .. '||name', name) end
redis.call('HSET', of_day, owner_key, owner)
for _, key in ipairs({ of_day, of_owner, of_units }) do redis.call('EXPIREAT', key, keep) end
return { 'added' }
