-- Starting → Live: the worker is there. With a claim once per generation; without one (a foreign worker) any number of times.
local uid, gen, claim, boot = A[1], A[2], A[3], A[4]
local u = unit_of(uid)
if u.gen ~= gen then return { 'over' } end
if u.state == 'live' then return { u.claim == claim and 'live' or 'claimed' } end
if u.state ~= 'starting' then return { 'over' } end
not_due(u, 'start')
no_start(u)
set(u, 'state', 'live', 'ready_ms', int(NOW), 'claim', claim)
unset(u, 'start_by', 'link_gw', 'link_conn')
due_at('lifetime', u, NOW + policy(u).lifetime)
tell(u, 'worker-ready', '', ',"boot_ms":' .. boot)
next_turn(u)
return { 'live' }
