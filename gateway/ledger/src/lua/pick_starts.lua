-- Leases start jobs that nobody has.
local lease, limit, jobs = num(A[1]), A[2], {}
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', 'starts', '-inf', int(NOW), 'LIMIT', 0, limit)) do
  local u = unit_of(uid)
  if u.state == 'starting' then
    if NOW - num(u.start_ms) > START_AGE_MS then
      not_due(u, 'start')
      new_generation(u, 0)
      due_at('start', u, NOW + policy(u).start)
    end
    set(u, 'start_by', GW)
    redis.call('ZADD', 'starts', int(NOW + lease), uid)
    jobs[#jobs + 1] = start_fields(u)
  else
    redis.call('ZREM', 'starts', uid)
  end
end
return jobs
