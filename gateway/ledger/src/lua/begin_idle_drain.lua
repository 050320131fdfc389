-- Live → Draining, only when idle for long enough: closes the window between idle and exit, as `submit` runs before or after.
local u = unit_of(A[1])
local mine = u.gen == A[2] and u.state == 'live'
if not mine or u.taken ~= '' or waiting(u) > 0 then
  not_due({ uid = A[1], gen = A[2] }, 'idle')
  return { 'over' }
end
local due = num(u.idle_since) + policy(u).idle
if due > NOW then
  due_at('idle', u, due)
  return { 'early' }
end
drain(u, 'idle')
return { 'draining' }
