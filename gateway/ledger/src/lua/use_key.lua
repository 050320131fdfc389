-- Whose an API key is. That it was used is written at most once a minute, and not at all while Redis takes no writes.
local key = 'apikey:' .. A[1]
local k = hash(key)
if k.hash == '' or (k.expires_ms ~= '' and num(k.expires_ms) <= NOW) then return { 'unknown' } end
if NOW - num(k.used_ms) >= 60000 then redis.pcall('HSET', key, 'used_ms', int(NOW)) end
return { 'known', 'hash', k.hash, 'owner', k.owner, 'scopes', k.scopes }
