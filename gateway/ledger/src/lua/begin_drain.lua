-- Starting, Live → Draining. Without a generation: whichever is current (a caller's stop).
local u, gen, reason = unit_of(A[1]), A[2], A[3]
local current = u.gen == gen or gen == ''
if current and u.state == 'draining' then
  -- The first cause stays, but how it ended is worth keeping.
  if A[4] ~= '' and u.exit_reason == '' then set(u, 'exit_reason', A[4], 'exit_code', A[5], 'exit_detail', A[6]) end
  return { 'already', 'gen', u.gen }
end
if not current or (u.state ~= 'starting' and u.state ~= 'live') then
  not_due({ uid = A[1], gen = gen }, 'idle', 'start', 'lifetime', 'cancel', 'turn')
  return { 'over' }
end
-- Between the look at what is due and this, the worker may have become ready or settled its turn.
local deadline = ({ unresponsive = 'cancel', turn_timeout = 'turn' })[reason]
local since = deadline and redis.call('ZSCORE', 'deadlines', deadline .. '|' .. job(u))
if (deadline and num(since or NOW + 1) > NOW) or (reason == 'start_timed_out' and u.state ~= 'starting') then
  return { 'over' }
end
if reason == 'start_timed_out' and u.start_by == '' then
  -- Nobody has begun with it: that is not the start's fault.
  due_at('start', u, NOW + policy(u).start)
  return { 'over' }
end
if A[4] ~= '' then set(u, 'exit_reason', A[4], 'exit_code', A[5], 'exit_detail', A[6]) end
local was = u.state
drain(u, reason)
-- It ended by itself before it took a turn, with one waiting: without a count it would be started for ever.
local by_itself = reason == 'failed' or reason == 'oom' or reason == 'start_timed_out'
if by_itself and (was == 'starting' or (u.taken == '' and u.served == '')) then
  local detail = A[6]
  if detail == '' then detail = 'the worker ended before it took a turn: ' .. (A[4] ~= '' and A[4] or reason) end
  failed_start(u, detail, true)
end
return { 'draining', 'gen', u.gen }
