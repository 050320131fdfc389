-- A start cannot be made now, through no fault of its own: the head turn says so, and the start's time begins anew.
local u = unit_of(A[1])
if u.state ~= 'starting' or u.gen ~= A[2] then return { 'over' } end
local id = head(u)
if not id then
  drain(u, 'stopped')
  return { 'over' }
end
due_at('start', u, NOW + policy(u).start + num(A[4]))
if redis.call('HGET', 'turn:' .. id, 'queued_reason') ~= A[3] then queued(u, id, A[3], 0) end
return { 'waits' }
