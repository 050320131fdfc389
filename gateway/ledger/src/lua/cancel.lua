-- A caller ends a turn: settled if it was never delivered, else a flag that every script of the worker's side returns.
local id = A[1]
local t = redis.call('HMGET', 'turn:' .. id, 'uid', 'status', 'delivered')
if not t[1] then return { 'unknown' } end
if t[2] == 'completed' or t[2] == 'failed' then return { 'already' } end
local u = unit_of(t[1])
if u.taken == id then
  redis.call('HSET', 'turn:' .. id, 'cancelled', '1')
  set(u, 'cancelled', '1')
  if u.state == 'live' then redis.call('ZADD', 'deadlines', 'NX', int(NOW + CANCEL_BOUND_MS), 'cancel|' .. job(u)) end
  if u.link_gw == GW then return { 'flagged', 'connection', u.link_conn } end
  if u.link_gw ~= '' and has_mail(u.link_gw) then
    mail(u.link_gw, 'kind', 'cancel', 'uid', u.uid, 'generation', u.gen, 'connection', u.link_conn, 'turn', id)
  end
  return { 'flagged' }
end
if t[3] then
  -- Between two generations: the next one is asked for its record only.
  redis.call('HSET', 'turn:' .. id, 'cancelled', '1', 'tell', 'cancelled')
  return { 'flagged' }
end
local first = head(u) == id
settle_turn(u, id, false, 'cancelled', '', '')
if u.state == 'live' and u.taken == '' and first then next_turn(u) end
if u.state == 'cold' and first then
  if waiting(u) == 0 then
    leave_line(u)
    leave_room(u)
  elseif u.room == '' then
    leave_line(u)
    start(u)
  end
end
return { 'settled' }
