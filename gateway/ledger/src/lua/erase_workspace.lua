-- A workspace that its owner named is given up: no turn may name it any more, and when nobody mounts it its folder may go.
local w, owner, owner_key = A[1], A[2], A[3]
local x = redis.call('HMGET', 'ws:' .. w, 'owner', 'open')
if x[1] ~= owner then return { 'unknown' } end
if own_name(w) then return { 'of_unit' } end
if num(x[2]) > 0 then return { 'busy' } end
redis.call('HSET', 'ws:' .. w, 'erasing', '1')
local mounted = end_grants(w, owner_key) or holder_of(w) ~= nil
return { mounted and 'draining' or 'begun' }
