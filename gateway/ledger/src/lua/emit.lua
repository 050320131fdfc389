-- Writes an event of the taken turn; what is not of it, or was written already, is dropped.
local uid, gen, turn, seq, kind, json, splice = A[1], A[2], A[3], A[4], A[5], A[6], A[7]
local u = unit_of(uid)
if u.gen ~= gen or u.state == 'cold' then return { 'over' } end
if u.state == 'starting' or u.taken == '' or (turn ~= '' and turn ~= u.taken) then return { 'stale' } end

if seq ~= '' and num(seq) <= num(u.seq) then
  -- The newest entry with this number is this attempt's.
  local first, to = u.first_event ~= '' and u.first_event or '-', '+'
  while true do
    local page = redis.call('XREVRANGE', 'unit:' .. uid .. ':out', to, first, 'COUNT', 64)
    for _, entry in ipairs(page) do
      if entry[2][4] == seq then return { 'repeat', 'id', entry[1] } end
      to = '(' .. entry[1]
    end
    if #page < 64 then return { 'repeat', 'id', first ~= '-' and first or '0-0' } end
  end
end

if splice ~= '' then
  local open = string.find(json, '{', 1, true)
  json = '{"turn_id":"' .. u.taken .. '",' .. string.sub(json, open + 1)
end
local key = 'turn:' .. u.taken
local first = u.first_event == ''
local id = write(u, json, seq)
if first then
  set(u, 'first_event', id)
  redis.call('HSET', key, 'first_event', id)
end
if seq ~= '' then set(u, 'seen', '1', 'seq', seq) elseif u.seen == '' then set(u, 'seen', '1') end
if kind == 'commit' then
  -- One a line: a raw line break in JSON is mere white space.
  local commits = redis.call('HGET', key, 'commits') or ''
  redis.call('HSET', key, 'commits', commits .. string.gsub(json, '[\r\n]', ' ') .. '\n')
end
return { 'written', 'id', id, 'cancel', u.cancelled }
