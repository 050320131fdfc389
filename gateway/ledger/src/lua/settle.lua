-- A worker's last word on its turn: the first one wins. Takes the next turn for the link. Where there is no room for more than
-- was kept free for it, the short form of it is what stays.
local uid, gen, turn, ok, reason, done, seq, cache, short = A[1], A[2], A[3], A[4] ~= '', A[5], A[6], A[7], A[8], A[9]
local u = unit_of(uid)
if u.gen ~= gen or u.state == 'cold' then return { 'over' } end
if u.state == 'starting' or u.taken ~= turn then
  local t = redis.call('HMGET', 'turn:' .. turn, 'settled_gen', 'done_event')
  if t[1] == gen and t[2] then return { 'repeat', 'id', t[2] } end
  return { 'stale' }
end
if not ok and reason == '' then
  local t = redis.call('HMGET', 'turn:' .. turn, 'tell', 'cancelled')
  reason = (t[1] and t[1] ~= '' and t[1]) or (t[2] and 'cancelled') or 'error'
end
if short ~= '' and (FULL or stored(u.owner_key) + #done > MOST_BYTES) then done = short end
local id = write(u, done, seq)
redis.call('HSET', 'turn:' .. turn, 'done_event', id, 'result_head', A[10])
if A[11] ~= '' then redis.call('HSET', 'turn:' .. turn, 'cut', '1') end
redis.call('HSETNX', 'turn:' .. turn, 'first_event', id)
local lost_why = reason == 'dead' and redis.call('HGET', 'turn:' .. turn, 'lost_why')
settle_turn(u, turn, ok, reason, done, lost_why and 'the last one: ' .. lost_why or '')
for _, w in ipairs(words(u.rw)) do redis.call('HDEL', 'ws:' .. w, 'unclean') end
not_due(u, 'cancel', 'turn')
unset(u, 'taken', 'taken_ms', 'seen', 'seq', 'seq_id', 'first_event', 'cancelled', 'failed_starts', 'start_detail')
set(u, 'cache', cache)
local reply = { 'written', 'id', id }
if u.state == 'live' then next_turn(u, reply) end
return reply
