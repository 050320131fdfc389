-- Starting → Draining: what was begun is removed, then the next try, or the head turn is settled with the reason.
local u = unit_of(A[1])
if u.state ~= 'starting' or u.gen ~= A[2] then return { 'over' } end
set(u, 'exit_reason', 'start_failed', 'exit_detail', A[3])
drain(u, 'start_failed')
local word, what = failed_start(u, A[3], A[4] ~= '')
return { word, 'after_ms', what, 'turn', what }
