-- Renews the lease of a drain job, for whoever has it.
local u = unit_of(A[1])
if u.state ~= 'draining' or u.gen ~= A[2] or u.drain_by ~= GW then return { 'over' } end
redis.call('ZADD', 'drains', int(NOW + num(A[3])), job(u))
return { 'renewed' }
