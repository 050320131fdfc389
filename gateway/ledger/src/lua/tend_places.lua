-- Places of cold units, which no script leaves behind: who waits gets them. A cold unit that stands in `room` has its owner's
-- place by right. A random few are looked at, of all and of some owners.
local limit, list, concerned = A[1], {}, {}

local function tend(s, owner_key)
  for _, uid in ipairs(redis.call('ZRANDMEMBER', s.live, limit)) do
    local x = redis.call('HMGET', 'unit:' .. uid, 'state', 'room', 'owner_key')
    local cold = not x[1] or x[1] == 'cold'
    if cold and not (owner_key and x[2] == 'room') then
      redis.call('ZREM', s.live, uid)
      concerned[owner_key or x[3] or ''] = true
      list[#list + 1] = { 'uid', uid, 'of', s.reason }
    end
  end
end

tend(scopes('')[2])
for _, owner_key in ipairs(redis.call('SRANDMEMBER', 'owners', 20)) do
  local s = scopes(owner_key)[1]
  tend(s, owner_key)
  if redis.call('ZCARD', s.live) == 0 and redis.call('ZCARD', s.line) == 0 then redis.call('SREM', 'owners', owner_key) end
end
for owner_key in pairs(concerned) do admit(owner_key) end
return list
