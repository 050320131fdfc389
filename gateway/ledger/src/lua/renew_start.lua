-- Renews the lease of a start job, for whoever has it.
local u = unit_of(A[1])
if u.state ~= 'starting' or u.gen ~= A[2] or u.start_by ~= GW then return { 'over' } end
lease_start(u, NOW + num(A[3]))
return { 'renewed' }
