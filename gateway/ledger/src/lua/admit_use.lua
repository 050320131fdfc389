-- A request to a model begins, if the generation is the current one and no budget is used up. It counts at once against
-- the budgets' requests; what it uses is added by add_use. A repeat of the same request changes nothing.
-- A: request, uid, generation, owner, its key, days that usage is kept; then requests, tokens, cost of the budgets of the
-- owner's day, the unit's day, the turn, '' for no bound.
local request, uid, gen, owner, owner_key, days = A[1], A[2], A[3], A[4], A[5], num(A[6])
local u = unit_of(uid)
if u.gen ~= gen or u.state == 'cold' then return { 'over' } end
local day, midnight = math.floor(NOW / 86400000), 86400 - math.floor(NOW / 1000) % 86400
local of_owner = 'usage:' .. int(day) .. ':' .. owner_key
local of_units, of_turn = of_owner .. ':units', 'turn:' .. u.taken
local answer = { 'admitted', 'turn', u.taken }
if redis.call('HSETNX', 'used:' .. request, '0', '1') == 0 then return answer end

local bounded = { owner_day = { of_owner, '|' }, unit_day = { of_units, uid .. '||' }, turn = { of_turn, 'used_' } }
local what = { 'requests', 'tokens', 'cost' }
for i, budget in ipairs({ 'owner_day', 'unit_day', 'turn' }) do
  for j, kind in ipairs(what) do
    local most = A[6 + (i - 1) * 3 + j]
    if most ~= '' then
      local key, before = bounded[budget][1], bounded[budget][2]
      local used = budget == 'turn' and u.taken == '' and '' or redis.call('HGET', key, before .. kind) or '0'
      -- Outside of a turn nothing can be charged to one.
      if used == '' or num(used) >= num(most) then
        redis.call('DEL', 'used:' .. request)
        return { used == '' and 'idle' or 'spent', 'budget', budget, 'kind', kind, 'used', used, 'most', most,
          'midnight_sec', int(midnight) }
      end
    end
  end
end

local keep = (day + days + 1) * 86400
-- For as long as somebody may still repeat it.
redis.call('EXPIRE', 'used:' .. request, 300)
redis.call('HINCRBY', of_owner, '|requests', 1)
redis.call('HINCRBY', of_units, uid .. '||requests', 1)
redis.call('EXPIREAT', of_owner, int(keep))
redis.call('EXPIREAT', of_units, int(keep))
if u.taken ~= '' then redis.call('HINCRBY', of_turn, 'used_requests', 1) end
return answer
