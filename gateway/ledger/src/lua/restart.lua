-- Starting → Starting: the runtime refused this generation and told the highest that it knows.
local u = unit_of(A[1])
if u.state ~= 'starting' or u.gen ~= A[2] then return { 'over' } end
not_due(u, 'start')
new_generation(u, A[3])
due_at('start', u, NOW + policy(u).start)
lease_start(u, NOW + START_LEASE_MS)
local reply = { 'started' }
append(reply, start_fields(u))
return reply
