-- An owner's API key is no more, on every gateway: none of them remembers one.
if redis.call('ZREM', 'apikeys:' .. A[1], A[2]) == 0 then redis.call('ZREM', 'apikeys:' .. A[1] .. ':until', A[2])
return { 'unknown' } end
return { redis.call('DEL', 'apikey:' .. A[2]) == 1 and 'revoked' or 'unknown' }
