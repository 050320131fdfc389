-- Lines for workspaces, what a live unit does next, and starts.

-- The first in line for a workspace, or nil; whoever does not wait any more leaves the line here.
local function first_in_line(w)
  local line = 'ws:' .. w .. ':line'
  local uid = redis.call('ZRANGE', line, 0, 0)[1]
  while uid do
    local x = redis.call('HMGET', 'unit:' .. uid, 'state', 'waits_for', 'wait_since')
    if x[1] == 'cold' and x[2] == w then return uid, num(x[3]) end
    redis.call('ZREM', line, uid)
    uid = redis.call('ZRANGE', line, 0, 0)[1]
  end
end

-- Whether a unit that waits for one of u's leases came before the given time (or, without one, at all).
local function contested(u, ms)
  for _, w in ipairs(words(u.leases)) do
    local first, since = first_in_line(w)
    if first and (not ms or ms > since) then return true end
  end
  return false
end

-- u is live and has no turn: the next one, another unit's turn, another shape, or idleness.
local function next_turn(u, reply, has_prompt)
  local id = head(u)
  if not id then
    if contested(u) or crowded(u) then return drain(u, 'preempted') end
    -- Idle since the last settlement: a worker that only reads again moves nothing.
    if u.idle_since ~= '' then return end
    set(u, 'idle_since', int(NOW))
    rank(u, int(NOW))
    return due_at('idle', u, NOW + policy(u).idle)
  end
  local t = redis.call('HMGET', 'turn:' .. id, 'shape_hash', 'submitted_ms')
  if t[1] ~= u.shape_hash then return drain(u, 'other_shape') end
  -- Whoever was started gets to run a turn, or units that need each other's workspaces could take turns at doing nothing.
  if u.served ~= '' and (contested(u, num(t[2])) or crowded(u, num(t[2]))) then return drain(u, 'preempted') end
  not_due(u, 'idle')
  if u.idle_since ~= '' then rank(u, '+inf') end
  unset(u, 'idle_since')
  deliver(u, id, reply, has_prompt)
end

-- A turn is settled: what only a start needs goes, the rest ages. Its record says what of it is counted.
local function ended(u, id)
  local key = 'turn:' .. id
  local bytes = -ENDING
  for _, field in ipairs({ 'options', 'shape', 'mounts' }) do bytes = bytes - redis.call('HSTRLEN', key, field) end
  for _, field in ipairs({ 'result', 'result_head', 'detail', 'commits' }) do bytes = bytes + redis.call('HSTRLEN', key, field) end
  redis.call('HINCRBY', key, 'stored', int(bytes))
  store(u.owner_key, bytes)
  local mounts = words(redis.call('HGET', key, 'mounts') or '')
  for i = 2, #mounts, 2 do
    local w = mounts[i]
    if not own_name(w) and redis.call('EXISTS', 'ws:' .. w) == 1 then redis.call('HINCRBY', 'ws:' .. w, 'open', -1) end
  end
  redis.call('HDEL', key, 'options', 'shape', 'mounts', 'queued_reason', 'queued_position')
  redis.call('DECR', 'open')
  if DETAIL < TTL then
    redis.call('ZADD', 'ages', int(NOW + DETAIL * 1000), 'prompt|' .. id)
  else
    redis.call('ZADD', 'ages', int(NOW + TTL * 1000), 'turn|' .. id)
  end
end

-- Settles a turn for ever. result is the `done` event or ''; the terminal event is written here.
local function settle_turn(u, id, ok, reason, result, detail)
  local key, last = 'turn:' .. id, nil
  local t = redis.call('HMGET', key, 'entry', 'attempt', 'taken_ms')
  if ok then
    last = tell(u, 'turn-complete', id, ',"duration_ms":' .. int(math.max(0, NOW - num(t[3]))))
    redis.call('HSET', key, 'status', 'completed')
  else
    local more = detail ~= '' and ',"detail":' .. quote(detail) or ''
    last = tell(u, 'turn-failed', id,
      ',"reason":' .. quote(reason) .. ',"attempts":' .. int(num(t[2])) .. ',"final":true' .. more)
    redis.call('HSET', key, 'status', 'failed', 'reason', reason, 'detail', detail)
  end
  redis.call('HSET', key, 'settled_ms', int(NOW), 'settled_gen', u.gen, 'result', result, 'last_event', last)
  redis.call('SREM', 'queued:' .. u.owner_key, id)
  redis.call('XDEL', 'unit:' .. u.uid .. ':in', t[1])
  ended(u, id)
  if reason == 'dead' then
    redis.call('ZADD', 'dead', int(NOW), id)
    redis.call('ZREMRANGEBYRANK', 'dead', 0, -10001)
  end
end

local function backoff(failed)
  if failed == 0 then return 0 end
  return math.min(30000, 250 * 2 ^ math.min(failed, 10))
end

-- A generation never ran a turn and is gone. Counts against the head turn, and settles it in the end.
local function failed_start(u, detail, retry)
  local id, failed = head(u), num(u.failed_starts) + 1
  set(u, 'failed_starts', int(failed), 'start_detail', detail)
  if not id then
    unset(u, 'failed_starts')
    return 'nothing', ''
  end
  if retry and failed < policy(u).starts then return 'retrying', int(backoff(failed)) end
  local t = redis.call('HMGET', 'turn:' .. id, 'delivered', 'tell')
  local reason = 'start_failed'
  -- It was delivered once and nobody can be asked what came of it. That is said: it may have been recorded, and committed.
  if t[1] then
    reason = (t[2] and t[2] ~= '') and t[2] or 'worker_lost'
    detail = 'nobody could be asked what came of it, so its commit may be there: ' .. detail
  end
  settle_turn(u, id, false, reason, '', detail)
  unset(u, 'failed_starts')
  return 'settled', id
end

local function new_generation(u, above)
  local gen = math.max(num(u.gen) + 1, NOW, num(above) + 1)
  set(u, 'gen', int(gen), 'start_ms', int(NOW))
end

-- A holder that has no worker and no turn holds nothing (it was lost with older data).
local function holder_of(w, uid)
  local holder = redis.call('HGET', 'ws:' .. w, 'holder')
  if not holder or holder == uid then return nil end
  local h = redis.call('HMGET', 'unit:' .. holder, 'state')
  if (not h[1] or h[1] == 'cold') and redis.call('XLEN', 'unit:' .. holder .. ':in') == 0 then return nil end
  return holder
end

local function leave_line(u)
  if u.waits_for == '' then return end
  redis.call('ZREM', 'ws:' .. u.waits_for .. ':line', u.uid)
  unset(u, 'waits_for', 'wait_since')
end

-- The unit stays cold and stands in line for a workspace; an idle holder is ended.
local function wait_for(u, w, holder, id)
  local line = 'ws:' .. w .. ':line'
  redis.call('ZADD', line, redis.call('HINCRBY', 'ws:' .. w, 'joined', 1), u.uid)
  local position = redis.call('ZCARD', line) - 1
  redis.call('SADD', 'lines', w)
  -- From now, also for one that waited elsewhere: whoever holds this one meanwhile has the right to its turn.
  set(u, 'waits_for', w, 'wait_since', int(NOW))
  queued(u, id, 'workspace ' .. w, position)
  local h = unit_of(holder)
  if h.state == 'live' and h.taken == '' and waiting(h) == 0 then drain(h, 'preempted') end
end

-- Turns at the head that need a workspace of another owner's who took it back: they cannot run, and are settled. One that
-- was delivered once is among them; its record cannot be asked for without the mount.
local function settle_ungranted(u)
  local id = head(u)
  while id do
    local w = ungranted(redis.call('HGET', 'turn:' .. id, 'foreign') or '', u.owner)
    if not w then return end
    settle_turn(u, id, false, 'workspace_unusable', '', 'workspace ' .. w .. ' is not granted to you any more')
    id = head(u)
  end
end

-- Cold → Starting for the head turn, with a place and all its leases; or none of them, and the unit stands in line.
function start(u, by, in_turn)
  settle_ungranted(u)
  local id = head(u)
  if not id then return false end
  local t = fields_of('turn:' .. id, 'rw', 'shape', 'shape_hash', 'policy', 'launcher', 'traceparent', 'mounts')
  for _, w in ipairs(words(t.rw)) do
    local holder = holder_of(w, u.uid)
    if holder then
      wait_for(u, w, holder, id)
      return false
    end
  end
  local full = take_place(u, in_turn)
  if full then
    stand(u, full, id)
    return false
  end
  local leases = words(u.leases)
  for _, w in ipairs(words(t.rw)) do
    if redis.call('HGET', 'ws:' .. w, 'holder') ~= u.uid then leases[#leases + 1] = w end
    redis.call('HSET', 'ws:' .. w, 'holder', u.uid)
  end
  new_generation(u, 0)
  unset(u, 'claim', 'ready_ms', 'served', 'waits_for', 'wait_since', 'room', 'room_since', 'idle_since', 'start_by')
  set(u, 'state', 'starting', 'leases', table.concat(leases, ' '), 'shape', t.shape, 'shape_hash', t.shape_hash, 'rw', t.rw,
    'policy', t.policy, 'launcher', t.launcher, 'traceparent', t.traceparent)
  be_guest(u, t.mounts)
  redis.call('HDEL', 'turn:' .. id, 'queued_reason', 'queued_position')
  local from = NOW + backoff(num(u.failed_starts))
  due_at('start', u, from + policy(u).start)
  if by and starts_to_begin() > 0 then
    lease_start(u, NOW + START_LEASE_MS)
  else
    redis.call('ZADD', 'starts', int(from), u.uid)
    nudge('starts', u)
  end
  return true
end

local function start_fields(u)
  return { 'start_uid', u.uid, 'start_gen', u.gen, 'start_owner', u.owner, 'start_name', u.name, 'start_launcher', u.launcher,
    'start_shape', u.shape, 'start_policy', u.policy, 'start_traceparent', u.traceparent,
    'start_failed', u.failed_starts, 'start_ms', u.start_ms }
end

-- Of everybody in line for these workspaces, who came first is tried first: it starts, or goes on to wait for another one.
local function give_on(free)
  while true do
    local uid, since, at
    for _, w in ipairs(free) do
      if not holder_of(w, '') then
        local first, ms = first_in_line(w)
        if first and (not uid or ms < since) then uid, since, at = first, ms, w end
      end
    end
    if not uid then return end
    if not one_more() then
      for _, w in ipairs(free) do unmoved('line ' .. w) end
      return
    end
    redis.call('ZREM', 'ws:' .. at .. ':line', uid)
    local x = unit_of(uid)
    unset(x, 'waits_for', 'wait_since')
    if waiting(x) > 0 then start(x) end
  end
end

-- Gives leases back, all or those that are not in keep.
local function release(u, keep)
  local kept, free = {}, {}
  for _, w in ipairs(words(u.leases)) do
    if keep and keep[w] then
      kept[#kept + 1] = w
    else
      if redis.call('HGET', 'ws:' .. w, 'holder') == u.uid then redis.call('HDEL', 'ws:' .. w, 'holder') end
      free[#free + 1] = w
    end
  end
  set(u, 'leases', table.concat(kept, ' '))
  give_on(free)
end

-- A cold unit that is erased: every turn of it is settled.
local function settle_erased(u)
  local id = head(u)
  while id do
    settle_turn(u, id, false, 'erased', '', '')
    id = head(u)
  end
end
