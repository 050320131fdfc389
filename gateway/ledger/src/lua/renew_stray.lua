-- Renews the lease of a stray that is being removed.
local known = redis.call('ZSCORE', 'strays:' .. A[1], A[2])
if not known then return { 'over' } end
redis.call('ZADD', 'strays:' .. A[1], int(NOW + num(A[3])), A[2])
return { 'renewed' }
