-- A unit takes no more turns; when it is cold, its waiting ones are settled and its leases given back.
local u = unit_of(A[1])
if u.state == '' then return { 'unknown' } end
set(u, 'erasing', '1', 'erase_keep', A[2])
redis.call('ZADD', 'erasures', int(NOW), u.uid)
-- Who was granted its own workspace has it no more; workers that mount it must be gone before the folder is.
local mounted = end_grants(u.uid, u.owner_key) or holder_of(u.uid, u.uid) ~= nil
if u.state == 'cold' and not mounted then
  settle_erased(u)
  leave_line(u)
  leave_room(u)
  release(u)
  return { 'begun', 'keep', A[2] }
end
if u.state ~= 'draining' and u.state ~= 'cold' then drain(u, 'stopped') end
return { 'draining' }
