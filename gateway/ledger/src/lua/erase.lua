-- A unit takes no more turns; when it is cold, its waiting ones are settled and its leases given back.
local u = unit_of(A[1])
if u.state == '' then return { 'unknown' } end
set(u, 'erasing', '1', 'erase_keep', A[2])
redis.call('ZADD', 'erasures', int(NOW), u.uid)
if u.state == 'cold' then
  settle_erased(u)
  leave_line(u)
  leave_room(u)
  release(u)
  return { 'begun', 'keep', A[2] }
end
if u.state ~= 'draining' then drain(u, 'stopped') end
return { 'draining' }
