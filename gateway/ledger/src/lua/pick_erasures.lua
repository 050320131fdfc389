-- Erasures that whoever began them has left for so long; taken for as long again.
local older, limit, list = num(A[1]), A[2], {}
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', 'erasures', '-inf', int(NOW - older), 'LIMIT', 0, limit)) do
  local u = redis.call('HMGET', 'unit:' .. uid, 'state', 'erasing', 'erase_keep')
  if u[2] and u[2] ~= '' then
    redis.call('ZADD', 'erasures', int(NOW), uid)
    if u[1] == 'cold' then list[#list + 1] = { 'uid', uid, 'keep', u[3] or '' } end
  else
    redis.call('ZREM', 'erasures', uid)
  end
end
return list
