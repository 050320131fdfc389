-- The folder of a workspace that was given up is in the trash: its name is nobody's.
local w, owner, owner_key = A[1], A[2], A[3]
local x = redis.call('HMGET', 'ws:' .. w, 'owner', 'erasing')
if x[1] ~= owner or not x[2] then return { 'no' } end
store(owner_key, -NAME * (1 + redis.call('HLEN', 'ws:' .. w .. ':grants')))
redis.call('DEL', 'ws:' .. w, 'ws:' .. w .. ':line', 'ws:' .. w .. ':grants')
redis.call('SREM', 'owner:' .. owner_key .. ':workspaces', w)
return { 'forgotten' }
