-- The owner of a workspace grants it to another one at a mode, or (without one) not any more. Workers that would mount more
-- than that are ended in this same script; turns that wait are settled when they would start (lines.lua).
local w, owner, to, to_key, mode, most, owner_key = A[1], A[2], A[3], A[4], A[5], num(A[6]), A[7]
local list = 'ws:' .. w .. ':grants'
if redis.call('HGET', 'ws:' .. w, 'owner') ~= owner then return { 'unknown' } end
local was = granted(w, to)
if mode == '' then
  if not was then return { 'none' } end
  redis.call('HDEL', list, to)
  store(owner_key, -NAME)
  evict(w, to_key)
  return { 'revoked' }
end
if redis.call('HEXISTS', 'ws:' .. w, 'erasing') == 1 then return { 'unknown' } end
if redis.call('HEXISTS', list, to) == 0 then
  if redis.call('HLEN', list) >= most then return { 'full' } end
  if stored(owner_key) + NAME > MOST_BYTES then return { 'stored' } end
  store(owner_key, NAME)
end
redis.call('HSET', list, to, mode .. ' ' .. to_key)
if was == 'rw' and mode == 'ro' then evict(w, to_key, 'rw') end
return { 'granted' }
