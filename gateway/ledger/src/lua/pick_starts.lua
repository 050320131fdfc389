-- Leases start jobs that nobody has, as many as may be worked on at once.
local lease, limit, jobs = num(A[1]), math.min(num(A[2]), starts_to_begin()), {}
if limit <= 0 then return jobs end
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', 'starts', '-inf', int(NOW), 'LIMIT', 0, int(limit))) do
  local u = unit_of(uid)
  if u.state == 'starting' then
    if NOW - num(u.start_ms) > START_AGE_MS then
      not_due(u, 'start')
      new_generation(u, 0)
      u.start_by = nil
    end
    -- It may take so long from when somebody begins with it.
    if u.start_by == '' then due_at('start', u, NOW + policy(u).start) end
    lease_start(u, NOW + lease)
    jobs[#jobs + 1] = start_fields(u)
  else
    no_start(u)
  end
end
return jobs
