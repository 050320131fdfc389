-- Leases drain jobs.
local lease, limit, jobs = num(A[1]), A[2], {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'drains', '-inf', int(NOW), 'LIMIT', 0, limit)) do
  local uid, gen = string.match(member, '^(%w+)|(%d+)$')
  local u = redis.call('HMGET', 'unit:' .. (uid or ''), 'state', 'gen', 'reason')
  if u[1] == 'draining' and u[2] == gen then
    redis.call('ZADD', 'drains', int(NOW + lease), member)
    redis.call('HSET', 'unit:' .. uid, 'drain_by', GW)
    jobs[#jobs + 1] = { 'uid', uid, 'gen', gen, 'reason', u[3] }
  else
    redis.call('ZREM', 'drains', member)
  end
end
return jobs
