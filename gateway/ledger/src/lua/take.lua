-- A worker reads: its connection is the link now. The held turn of which no event was seen, unless this connection had it, or
-- the next one.
local uid, gen, connection, had = A[1], A[2], A[3], A[4]
local u = unit_of(uid)
if u.gen ~= gen or u.state == 'cold' then return { 'over' } end
if u.state == 'starting' then return { 'nothing' } end
set(u, 'link_gw', GW, 'link_conn', connection)
if u.state == 'draining' then return { 'stop' } end
local reply = { 'turn' }
if u.taken == '' then
  next_turn(u, reply)
  if u.state == 'draining' then return { 'stop' } end
  if #reply == 1 then return { 'nothing' } end
  return reply
end
if u.seen == '' and u.taken ~= had then
  append(reply, message(u, u.taken))
  return reply
end
if u.cancelled ~= '' then return { 'cancel', 'turn', u.taken } end
return { 'nothing' }
