-- Draining → Cold or Starting: the runtime confirmed that the workload no longer exists. Nothing else ends a drain.
local u, gen = unit_of(A[1]), A[2]
redis.call('ZREM', 'drains', A[1] .. '|' .. gen)
if u.state ~= 'draining' or u.gen ~= gen then return { 'over' } end

-- What it was ended for, unless it ended by itself: then what the substrate says.
local ours = { idle = 'idle_timeout', stopped = 'stopped', preempted = 'stopped', other_shape = 'stopped',
  unresponsive = 'stopped', turn_timeout = 'stopped', flooded = 'stopped', max_lifetime = 'max_lifetime', start_timed_out = 'start_failed' }
local why = u.exit_reason ~= '' and u.exit_reason or ours[u.reason] or A[3]
local code = u.exit_code ~= '' and u.exit_code or A[4]
local detail = u.exit_detail ~= '' and u.exit_detail or A[5]
local rest = ',"reason":' .. quote(why)
if code ~= '' then rest = rest .. ',"exit_code":' .. int(tonumber(code)) end
if detail ~= '' then rest = rest .. ',"detail":' .. quote(detail) end
tell(u, 'worker-exit', '', rest)

-- Causes that are the turn's own: it is not run again.
local OF_CAUSE = { turn_timeout = 'timeout', flooded = 'flooded' }
local id, cause = u.taken, u.reason
if id ~= '' then
  local key = 'turn:' .. id
  local t = redis.call('HMGET', key, 'lost', 'taken_away', 'cancelled', 'tell')
  for _, w in ipairs(words(u.rw)) do redis.call('HSET', 'ws:' .. w, 'unclean', id) end
  local lost, taken_away = num(t[1]), num(t[2])
  if cause == 'idle' or cause == 'stopped' or cause == 'preempted' or cause == 'other_shape' then
    taken_away = taken_away + 1
  else
    taken_away = MAX_TAKEN_AWAY + 1
  end
  local told = t[4] and t[4] ~= ''
  if taken_away > MAX_TAKEN_AWAY and not told then
    lost, taken_away = lost + 1, num(t[2])
    local reason = why == 'oom' and 'oom' or OF_CAUSE[cause] or 'worker_lost'
    -- What the substrate said of the last one: a turn that dies of it in the end shall tell it.
    local said = detail ~= '' and detail or why
    redis.call('HSET', key, 'lost_why', said)
    tell(u, 'turn-failed', id, ',"reason":' .. quote(reason) ..
      ',"attempts":' .. int(lost) .. ',"final":false,"detail":' .. quote(said))
  end
  local mark = told and t[4] or (t[3] and 'cancelled') or OF_CAUSE[cause]
    or (lost >= policy(u).attempts and 'dead') or ''
  redis.call('HSET', key, 'status', 'queued', 'lost', int(lost), 'taken_away', int(math.min(taken_away, MAX_TAKEN_AWAY)), 'tell', mark)
  redis.call('SADD', 'queued:' .. u.owner_key, id)
  unset(u, 'taken', 'taken_ms', 'seen', 'seq', 'seq_id', 'first_event', 'cancelled')
  -- Nobody could be asked: that is as good as a start that failed.
  if told then failed_start(u, 'the worker was lost before it told what came of the turn', true) end
end

set(u, 'state', 'cold')
free_place(u)
guest_leaves(u)
unset(u, 'reason', 'drain_by', 'exit_reason', 'exit_code', 'exit_detail', 'link_gw', 'link_conn', 'claim', 'ready_ms', 'served')
if u.erasing ~= '' then settle_erased(u) end
settle_ungranted(u)

local next = head(u)
if not next then
  release(u)
  admit(u.owner_key)
  return { 'exited' }
end
-- Leases are kept over the gap while a tree is unclean, and unless somebody came for them before the next turn did.
local unclean = false
for _, w in ipairs(words(u.leases)) do
  local turn = redis.call('HGET', 'ws:' .. w, 'unclean')
  unclean = unclean or turn == next
end
local came = num(redis.call('HGET', 'turn:' .. next, 'submitted_ms'))
if not unclean and contested(u, came) then release(u) end
-- Its place is its own again unless somebody waited for one before the next turn came.
for _, s in ipairs(scopes(u.owner_key)) do
  if came_before(s, came) then admit(u.owner_key) end
end
if start(u, nil, true) then
  local keep = {}
  for _, w in ipairs(words(u.rw)) do keep[w] = true end
  release(u, keep)
elseif not unclean then
  release(u)
end
admit(u.owner_key)
return { 'exited' }
