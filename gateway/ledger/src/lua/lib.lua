-- In front of every script. ARGV: the caller's gateway id, bounds of out-streams (entries, bytes), seconds that a settled
-- turn is kept; then what the script itself takes, A[1], A[2], …
--
-- Fields of unit:<uid>
--   uid owner name state created_ms
--   gen            last generation, current unless cold
--   reason exit_reason exit_code exit_detail       while draining
--   shape shape_hash rw policy launcher traceparent start_ms start_by     of the last start
--   claim ready_ms served                          of the live generation
--   link_gw link_conn                              the reading connection
--   taken taken_ms seen seq first_event cancelled  the taken turn; seq is the highest number seen of it
--   idle_since cache failed_starts start_detail leases
--   waits_for wait_since                           a cold unit on a workspace's wait list
--   out_bytes trimmed_to erasing erase_keep
-- An absent field reads as ''. A turn's fields are in submit.lua, settle_turn and take_turn.

local GW, MAX_ENTRIES, MAX_BYTES, TTL = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local A = {}
for i = 5, #ARGV do A[i - 4] = ARGV[i] end

local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- How long the gateway that entered Starting has the job to itself before it renews.
local START_LEASE_MS = 15000
-- A start job of this age takes a new generation: half of what the runtime's tombstones live.
local START_AGE_MS = 30 * 60 * 1000
local CANCEL_BOUND_MS = 30000
-- Generations that the platform itself may take from under a turn before that counts as an attempt.
local MAX_TAKEN_AWAY = 10
local BLANK = { __index = function() return '' end }

-- Never 1.79e+12.
local function int(n) return string.format('%d', n) end
local function num(text) return tonumber(text) or 0 end
local quote = cjson.encode

local function hash(key)
  local fields, flat = setmetatable({}, BLANK), redis.call('HGETALL', key)
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

local function unit_of(uid)
  local u = hash('unit:' .. uid)
  u.uid = uid
  return u
end

local function set(u, ...)
  redis.call('HSET', 'unit:' .. u.uid, ...)
  local pairs_ = { ... }
  for i = 1, #pairs_, 2 do u[pairs_[i]] = pairs_[i + 1] end
end

local function unset(u, ...)
  redis.call('HDEL', 'unit:' .. u.uid, ...)
  for _, field in ipairs({ ... }) do u[field] = nil end
end

local function words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do list[#list + 1] = word end
  return list
end

local function policy(u)
  local n = words(u.policy)
  return { idle = num(n[1]), start = num(n[2]), lifetime = num(n[3]), attempts = num(n[4]), starts = num(n[5]) }
end

local function job(u) return u.uid .. '|' .. u.gen end
local function due_at(kind, u, ms) redis.call('ZADD', 'deadlines', int(ms), kind .. '|' .. job(u)) end
local function not_due(u, ...)
  for _, kind in ipairs({ ... }) do redis.call('ZREM', 'deadlines', kind .. '|' .. job(u)) end
end

-- Stream ids compare by their two numbers.
local function before(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  a1, b1 = tonumber(a1), tonumber(b1)
  return a1 < b1 or (a1 == b1 and tonumber(a2) < tonumber(b2))
end

-- Oldest entries go while there are too many; those of the taken turn only beyond twice the bounds.
local function trim(u)
  local out, entries, bytes, last = 'unit:' .. u.uid .. ':out', nil, num(u.out_bytes), nil
  entries = redis.call('XLEN', out)
  while entries > 1 and (entries > MAX_ENTRIES or bytes > MAX_BYTES) do
    local first = redis.call('XRANGE', out, '-', '+', 'COUNT', 1)[1]
    local of_turn = u.taken ~= '' and u.first_event ~= '' and not before(first[1], u.first_event)
    if of_turn and entries <= 2 * MAX_ENTRIES and bytes <= 2 * MAX_BYTES then break end
    redis.call('XDEL', out, first[1])
    entries, bytes, last = entries - 1, bytes - #first[2][2], first[1]
  end
  if last then set(u, 'out_bytes', int(bytes), 'trimmed_to', last) end
end

-- Writes an event; the number is the worker's, '' for the control plane's own.
local function write(u, json, seq)
  local out, id = 'unit:' .. u.uid .. ':out', nil
  if seq ~= '' then
    id = redis.call('XADD', out, '*', 'event', json, 'seq', seq)
  else
    id = redis.call('XADD', out, '*', 'event', json)
  end
  u.out_bytes = int(redis.call('HINCRBY', 'unit:' .. u.uid, 'out_bytes', #json))
  trim(u)
  return id
end

-- The control plane's own events; rest is JSON of further fields with a comma in front.
local function tell(u, kind, turn, rest)
  local of = turn ~= '' and ',"turn_id":' .. quote(turn) or ''
  local gen = u.gen ~= '' and u.gen or '0'
  local id = write(u, '{"type":"' .. kind .. '"' .. of .. ',"generation":' .. gen .. rest .. '}', '')
  if turn ~= '' then
    redis.call('HSETNX', 'turn:' .. turn, 'first_event', id)
    if u.taken == turn and u.first_event == '' then set(u, 'first_event', id) end
  end
  return id
end

local function last_event(u)
  local last = redis.call('XREVRANGE', 'unit:' .. u.uid .. ':out', '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0'
end

local function queued(u, turn, reason, position)
  redis.call('HSET', 'turn:' .. turn, 'queued_reason', reason)
  tell(u, 'queued', turn, ',"reason":' .. quote(reason) .. ',"position":' .. int(position))
end

-- The first turn that is not settled: the taken one, or the next.
local function head(u)
  local first = redis.call('XRANGE', 'unit:' .. u.uid .. ':in', '-', '+', 'COUNT', 1)[1]
  return first and first[2][2]
end

local function waiting(u) return redis.call('XLEN', 'unit:' .. u.uid .. ':in') end

local function mail(gateway, ...) redis.call('XADD', 'mail:' .. gateway, '*', ...) end
-- A gateway without a mailbox is dead.
local function has_mail(gateway) return redis.call('EXISTS', 'mail:' .. gateway) == 1 end

-- Starting, Live → Draining. Only `exited` ends that.
local function drain(u, reason)
  not_due(u, 'idle', 'start', 'lifetime', 'cancel')
  redis.call('ZREM', 'starts', u.uid)
  set(u, 'state', 'draining', 'reason', reason)
  unset(u, 'idle_since', 'start_by')
  redis.call('ZADD', 'drains', int(NOW), job(u))
  redis.call('XADD', 'nudge:drains', 'MAXLEN', '~', 100, '*', 'uid', u.uid)
  if u.link_gw ~= '' and has_mail(u.link_gw) then
    mail(u.link_gw, 'kind', 'draining', 'uid', u.uid, 'generation', u.gen, 'connection', u.link_conn)
  end
end

-- What a worker is told of the taken turn, as name, value, … A prompt that the caller has is left out.
local function message(u, id, without_prompt)
  local t, unclean = hash('turn:' .. id), {}
  for _, w in ipairs(words(u.rw)) do
    local turn = redis.call('HGET', 'ws:' .. w, 'unclean')
    if turn then unclean[#unclean + 1] = w .. ' ' .. turn end
  end
  local say = t.tell
  if say == '' and t.cancelled ~= '' then say = 'cancelled' end
  return { 'turn_id', id, 'generation', u.gen, 'prompt', without_prompt and '' or t.prompt, 'prompt_path', t.prompt_path,
    'attempt', t.attempt, 'trigger', t.trigger, 'thread', t.thread, 'shape', t.shape, 'options', t.options,
    'start', t.start, 'timeout_sec', t.timeout_sec, 'tell', say, 'unclean', table.concat(unclean, ' '),
    'cache', u.cache, 'session', t.session, 'traceparent', t.traceparent }
end

-- Gives the head turn to the live, idle generation.
local function take_turn(u, id)
  local key = 'turn:' .. id
  local t = redis.call('HMGET', key, 'lost', 'submitted_ms', 'tell', 'first_event')
  local lost, told = num(t[1]), t[3] and t[3] ~= ''
  -- One that is only asked for its record is not another attempt.
  local attempt = told and math.max(lost, 1) or lost + 1
  local start = (u.served == '' and num(t[2]) <= num(u.ready_ms)) and 'cold' or 'warm'
  redis.call('HSET', key, 'status', 'running', 'attempt', int(attempt), 'taken_ms', int(NOW), 'start', start, 'delivered', '1')
  redis.call('HDEL', key, 'queued_reason')
  not_due(u, 'idle')
  set(u, 'taken', id, 'taken_ms', int(NOW), 'seq', '0', 'served', '1', 'first_event', t[4] or '')
  unset(u, 'seen', 'idle_since', 'cancelled')
  if not told then unset(u, 'failed_starts', 'start_detail') end
end

local function append(reply, more)
  for i = 1, #more do reply[#reply + 1] = more[i] end
end

-- Takes the head turn for the link, if there is one that lives: into the reply when it is the caller's, else by mail.
local function deliver(u, id, reply, has_prompt)
  if u.link_gw == '' then return end
  local mine = reply and u.link_gw == GW
  if not mine and not has_mail(u.link_gw) then return end
  take_turn(u, id)
  local fields = message(u, id, mine and has_prompt == id)
  append(fields, { 'connection', u.link_conn })
  if mine then
    append(reply, fields)
  else
    mail(u.link_gw, 'kind', 'deliver', 'uid', u.uid, unpack(fields))
  end
end

-- The first in line for a workspace, or nil; whoever does not wait any more leaves the line here.
local function first_in_line(w)
  local list = 'ws:' .. w .. ':wait'
  local uid = redis.call('LINDEX', list, 0)
  while uid do
    local x = redis.call('HMGET', 'unit:' .. uid, 'state', 'waits_for', 'wait_since')
    if x[1] == 'cold' and x[2] == w then return uid, num(x[3]) end
    redis.call('LPOP', list)
    uid = redis.call('LINDEX', list, 0)
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
    if contested(u) then return drain(u, 'preempted') end
    -- Idle since the last settlement: a worker that only reads again moves nothing.
    if u.idle_since ~= '' then return end
    set(u, 'idle_since', int(NOW))
    return due_at('idle', u, NOW + policy(u).idle)
  end
  local t = redis.call('HMGET', 'turn:' .. id, 'shape_hash', 'submitted_ms')
  if t[1] ~= u.shape_hash then return drain(u, 'other_shape') end
  -- Whoever was started gets to run a turn, or units that need each other's workspaces could take turns at doing nothing.
  if u.served ~= '' and contested(u, num(t[2])) then return drain(u, 'preempted') end
  not_due(u, 'idle')
  unset(u, 'idle_since')
  deliver(u, id, reply, has_prompt)
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
  redis.call('HDEL', key, 'queued_reason')
  redis.call('EXPIRE', key, TTL)
  redis.call('XDEL', 'unit:' .. u.uid .. ':in', t[1])
  for _, old in ipairs(redis.call('ZRANGE', 'unit:' .. u.uid .. ':turns', 0, 4)) do
    if redis.call('EXISTS', 'turn:' .. old) == 0 then redis.call('ZREM', 'unit:' .. u.uid .. ':turns', old) end
  end
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
  -- It was delivered once and nobody can be asked what came of it.
  if t[1] then reason = (t[2] and t[2] ~= '') and t[2] or 'worker_lost' end
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
  redis.call('LREM', 'ws:' .. u.waits_for .. ':wait', 0, u.uid)
  unset(u, 'waits_for', 'wait_since')
end

-- The unit stays cold and stands in line for a workspace; an idle holder is ended.
local function wait_for(u, w, holder, id)
  local list = 'ws:' .. w .. ':wait'
  local position = redis.call('RPUSH', list, u.uid) - 1
  -- From now, also for one that waited elsewhere: whoever holds this one meanwhile has the right to its turn.
  set(u, 'waits_for', w, 'wait_since', int(NOW))
  queued(u, id, 'workspace ' .. w, position)
  local h = unit_of(holder)
  if h.state == 'live' and h.taken == '' and waiting(h) == 0 then drain(h, 'preempted') end
end

-- Cold → Starting for the head turn, with all its leases; or none of them, and the unit stands in line.
local function start(u, by)
  local id = head(u)
  local t = hash('turn:' .. id)
  for _, w in ipairs(words(t.rw)) do
    local holder = holder_of(w, u.uid)
    if holder then
      wait_for(u, w, holder, id)
      return false
    end
  end
  local leases = words(u.leases)
  for _, w in ipairs(words(t.rw)) do
    if redis.call('HGET', 'ws:' .. w, 'holder') ~= u.uid then leases[#leases + 1] = w end
    redis.call('HSET', 'ws:' .. w, 'holder', u.uid)
  end
  new_generation(u, 0)
  unset(u, 'claim', 'ready_ms', 'served', 'waits_for', 'wait_since', 'idle_since', 'start_by')
  set(u, 'state', 'starting', 'leases', table.concat(leases, ' '), 'shape', t.shape, 'shape_hash', t.shape_hash, 'rw', t.rw,
    'policy', t.policy, 'launcher', t.launcher, 'traceparent', t.traceparent)
  redis.call('HDEL', 'turn:' .. id, 'queued_reason')
  local from = NOW + backoff(num(u.failed_starts))
  due_at('start', u, from + policy(u).start)
  if by then
    set(u, 'start_by', by)
    redis.call('ZADD', 'starts', int(NOW + START_LEASE_MS), u.uid)
  else
    redis.call('ZADD', 'starts', int(from), u.uid)
    redis.call('XADD', 'nudge:starts', 'MAXLEN', '~', 100, '*', 'uid', u.uid)
  end
  return true
end

local function start_fields(u)
  return { 'start_uid', u.uid, 'start_gen', u.gen, 'start_owner', u.owner, 'start_name', u.name, 'start_launcher', u.launcher,
    'start_shape', u.shape, 'start_policy', u.policy, 'start_traceparent', u.traceparent,
    'start_failed', u.failed_starts, 'start_ms', u.start_ms }
end

-- Gives leases back, all or those that are not in keep. Of everybody in line for them, who came first is tried first: it
-- starts, or goes on to wait for another workspace.
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
  while true do
    local uid, since, at
    for _, w in ipairs(free) do
      if not holder_of(w, '') then
        local first, ms = first_in_line(w)
        if first and (not uid or ms < since) then uid, since, at = first, ms, w end
      end
    end
    if not uid then return end
    redis.call('LPOP', 'ws:' .. at .. ':wait')
    local x = unit_of(uid)
    unset(x, 'waits_for', 'wait_since')
    if waiting(x) > 0 then start(x) end
  end
end

-- A cold unit that is erased: every turn of it is settled.
local function settle_erased(u)
  local id = head(u)
  while id do
    settle_turn(u, id, false, 'erased', '', '')
    id = head(u)
  end
end
