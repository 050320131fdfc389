-- Writes an event of the taken turn; what is not of it, or was written already, is dropped.
local COMMITS_BYTES = 16384
local uid, gen, turn, seq, kind, json, splice = A[1], A[2], A[3], A[4], A[5], A[6], A[7]
local u = unit_of(uid)
if u.gen ~= gen or u.state == 'cold' then return { 'over' } end
if u.state == 'starting' or u.taken == '' or (turn ~= '' and turn ~= u.taken) then return { 'stale' } end

-- A worker sends one at a time, so what it repeats is its last one; nobody looks for an older one.
if seq ~= '' and num(seq) <= num(u.seq) then return { 'repeat', 'id', u.seq_id ~= '' and u.seq_id or '0-0' } end

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
if seq ~= '' then set(u, 'seen', '1', 'seq', seq, 'seq_id', id) elseif u.seen == '' then set(u, 'seen', '1') end
if kind == 'commit' then
  -- One a line: a raw line break in JSON is mere white space. A worker may tell of commits without end: the first are kept.
  local commits = redis.call('HGET', key, 'commits') or ''
  if #commits + #json <= COMMITS_BYTES then
    redis.call('HSET', key, 'commits', commits .. string.gsub(json, '[\r\n]', ' ') .. '\n')
  end
end
return { 'written', 'id', id, 'cancel', u.cancelled }
