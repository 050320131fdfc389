-- An owner's API keys, the oldest first. What is none any more leaves the list when the next one is made.
local list = {}
for _, id in ipairs(redis.call('ZRANGE', 'apikeys:' .. A[1], 0, -1)) do
  local k = hash('apikey:' .. id)
  if k.hash ~= '' then
    list[#list + 1] = { 'id', id, 'name', k.name, 'scopes', k.scopes, 'created_ms', k.created_ms,
      'expires_ms', k.expires_ms, 'used_ms', k.used_ms }
  end
end
return list
