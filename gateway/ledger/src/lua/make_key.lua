-- An API key is kept: its hash, never itself. Asked again after an unknown outcome, it is the same one.
local id, owner_key, owner, digest, name, scopes, ttl_sec, most = A[1], A[2], A[3], A[4], A[5], A[6], num(A[7]), num(A[8])
local key, list = 'apikey:' .. id, 'apikeys:' .. owner_key
local seen = hash(key)
if seen.hash ~= '' then
  if seen.hash ~= digest then return { 'taken' } end
  return { 'made', 'created_ms', seen.created_ms, 'expires_ms', seen.expires_ms }
end
for _, old in ipairs(redis.call('ZRANGE', list .. ':until', '-inf', int(NOW), 'BYSCORE')) do
  redis.call('ZREM', list, old)
  redis.call('ZREM', list .. ':until', old)
end
if redis.call('ZCARD', list) >= most then return { 'full' } end
local expires = ''
if ttl_sec > 0 then expires = int(NOW + ttl_sec * 1000) end
redis.call('HSET', key, 'hash', digest, 'owner', owner, 'name', name, 'scopes', scopes, 'created_ms', int(NOW),
  'expires_ms', expires)
if expires ~= '' then
  redis.call('PEXPIREAT', key, expires)
  redis.call('ZADD', list .. ':until', expires, id)
end
redis.call('ZADD', list, int(NOW), id)
return { 'made', 'created_ms', int(NOW), 'expires_ms', expires }
