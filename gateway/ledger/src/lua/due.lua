-- What is due; what is not of a current generation is dropped.
local list = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'deadlines', '-inf', int(NOW), 'LIMIT', 0, A[1])) do
  local kind, uid, gen = string.match(member, '^(%a+)|(%w+)|(%d+)$')
  local u = redis.call('HMGET', 'unit:' .. (uid or ''), 'state', 'gen')
  if kind and u[2] == gen and (u[1] == 'live' or u[1] == 'starting') then
    list[#list + 1] = { 'kind', kind, 'uid', uid, 'gen', gen }
  else
    redis.call('ZREM', 'deadlines', member)
  end
end
return list
