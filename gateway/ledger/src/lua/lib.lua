-- In front of every script, with room.lua, lines.lua and stored.lua. ARGV: the caller's gateway id, bounds of out-streams
-- (entries, bytes), seconds that a settled turn is kept, milliseconds that the platform waits longer for a turn than its worker
-- does; most units with a workload of an owner and in all, most starts that are worked on; seconds that the prompt and the
-- events of a settled turn are kept; bytes, units and workspace names that an owner may have, most turns that are not settled,
-- of all owners; then what the script itself takes, A[1], A[2], … FULL is true where the script goes on although Redis has
-- reached its maxmemory (script.rs).
--
-- Fields of unit:<uid>
--   uid owner owner_key name state created_ms
--   gen            last generation, current unless cold
--   reason drain_by exit_reason exit_code exit_detail   while draining
--   shape shape_hash rw policy launcher traceparent start_ms start_by     of the last start
--   claim ready_ms served                          of the live generation
--   link_gw link_conn                              the reading connection
--   taken taken_ms seen seq seq_id first_event cancelled  the taken turn; seq is the highest number seen of it, seq_id that event
--   idle_since cache failed_starts start_detail leases
--   guest_of                                       other owners' workspaces that the last start mounts, `<mode> <id> …`
--   waits_for wait_since                           a cold unit in line for a workspace
--   room room_since                                a cold unit in line for a place: the line, and since when (µs)
--   out_bytes trimmed_to erasing erase_keep
-- An absent field reads as ''. A turn's fields are in submit.lua, settle_turn and take_turn.

local GW, MAX_ENTRIES, MAX_BYTES, TTL = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local TURN_MARGIN_MS, PER_OWNER, IN_ALL, PENDING = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local DETAIL, MOST_BYTES, MOST_UNITS = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local MOST_NAMES, MOST_OPEN = tonumber(ARGV[12]), tonumber(ARGV[13])
local A = {}
for i = 14, #ARGV do A[i - 13] = ARGV[i] end

local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- How long the gateway that entered Starting has the job to itself before it renews.
local START_LEASE_MS = 5000
-- A start job of this age takes a new generation: half of what the runtime's tombstones live.
local START_AGE_MS = 30 * 60 * 1000
local CANCEL_BOUND_MS = 30000
-- Generations that the platform itself may take from under a turn before that counts as an attempt.
local MAX_TAKEN_AWAY = 10
-- What is counted against an owner besides texts, in bytes: about what Redis takes for a turn's record, a unit's, the name of a
-- workspace or a grant of one, an event.
local TURN, UNIT, NAME, EVENT = 2048, 4096, 512, 64
-- Kept free for the end of each turn that is not settled. A result that finds no more room than that is cut (settle.lua).
local ENDING = 16384
-- What a unit's events may take while Redis is full, or its owner's events have more than their share.
local LEAST = 16384
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

-- Some fields of a hash; for those beside which a large one lies.
local function fields_of(key, ...)
  local fields, values = setmetatable({}, BLANK), redis.call('HMGET', key, ...)
  for i, name in ipairs({ ... }) do fields[name] = values[i] or nil end
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

local function append(reply, more)
  for i = 1, #more do reply[#reply + 1] = more[i] end
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

-- `stored:<owner key>` counts the bytes that an owner has here. Whatever adds or removes some says so here in the same script;
-- nothing that is counted expires by itself. What is stored now.
local function store(owner_key, bytes)
  local key = 'stored:' .. owner_key
  local now = redis.call('INCRBY', key, int(bytes))
  if now <= 0 then redis.call('DEL', key) end
  return now
end
local function stored(owner_key) return num(redis.call('GET', 'stored:' .. owner_key)) end

-- Events may have half of what their owner may store: they are never what a call is refused for.
local function pressed(now) return FULL or now > MOST_BYTES / 2 end

-- Removes the oldest entries, one after the other, for as long as `upto(entries, bytes)` gives the end of a range (XRANGE) that
-- holds one. What stays is not read: it may be large, and this runs for every event.
local function shorten(u, upto)
  local out, last, freed = 'unit:' .. u.uid .. ':out', nil, 0
  local entries, bytes = redis.call('XLEN', out), num(u.out_bytes)
  while entries > 0 do
    local to = upto(entries, bytes)
    local first = to and redis.call('XRANGE', out, '-', to, 'COUNT', 1)[1]
    if not first then break end
    last = first[1]
    redis.call('XDEL', out, last)
    entries, bytes, freed = entries - 1, bytes - #first[2][2], freed + #first[2][2] + EVENT
  end
  if not last then return end
  set(u, 'out_bytes', int(bytes), 'trimmed_to', last)
  store(u.owner_key, -freed)
end

-- Oldest entries go while there are too many; those of the taken turn only beyond twice the bounds, or when there is no room.
local function trim(u, now)
  local short = pressed(now)
  shorten(u, function(entries, bytes)
    if short and bytes > LEAST then return '+' end
    if entries <= 1 or (entries <= MAX_ENTRIES and bytes <= MAX_BYTES) then return nil end
    if entries > 2 * MAX_ENTRIES or bytes > 2 * MAX_BYTES then return '+' end
    return (u.taken == '' or u.first_event == '') and '+' or '(' .. u.first_event
  end)
end

-- Writes an event; the number is the worker's, '' for the control plane's own.
local function write(u, json, seq)
  local fields = { 'event', json }
  if seq ~= '' then append(fields, { 'seq', seq }) end
  local now = store(u.owner_key, #json + EVENT)
  -- Readers that follow closely learn from this that something before it is gone already.
  if u.trimmed_to ~= '' and pressed(now) then append(fields, { 'after', u.trimmed_to }) end
  local id = redis.call('XADD', 'unit:' .. u.uid .. ':out', '*', unpack(fields))
  u.out_bytes = int(redis.call('HINCRBY', 'unit:' .. u.uid, 'out_bytes', #json))
  if tonumber(u.out_bytes) == #json then redis.call('ZADD', 'ages', 'NX', int(NOW + DETAIL * 1000), 'out|' .. u.uid) end
  trim(u, now)
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
  if last then return last[1] end
  return u.trimmed_to ~= '' and u.trimmed_to or '0-0'
end

local function queued(u, turn, reason, position)
  redis.call('HSET', 'turn:' .. turn, 'queued_reason', reason, 'queued_position', int(position))
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

-- How near u is to being ended for others: since when it is idle, '+inf' while it is not, '-inf' once it drains.
local function rank(u, score)
  redis.call('ZADD', 'live', 'XX', score, u.uid)
  redis.call('ZADD', 'live:' .. u.owner_key, 'XX', score, u.uid)
end

local function nudge(what, u) redis.call('XADD', 'nudge:' .. what, 'MAXLEN', '~', 100, '*', 'uid', u.uid) end

-- The beginning of a text, in whole characters of UTF-8.
local function beginning(text, most)
  local n = math.min(#text, most)
  while n < #text and n > 0 and bit.band(string.byte(text, n + 1), 0xc0) == 0x80 do n = n - 1 end
  return string.sub(text, 1, n)
end

-- Nobody works on u's start any more: the next one may be worked on.
local function no_start(u)
  redis.call('ZREM', 'starts', u.uid)
  if redis.call('ZREM', 'starting', u.uid) == 1 and redis.call('ZCOUNT', 'starts', '-inf', int(NOW)) > 0 then
    nudge('starts', u)
  end
end

-- u's start is worked on by this gateway until then.
local function lease_start(u, ms)
  set(u, 'start_by', GW)
  redis.call('ZADD', 'starts', int(ms), u.uid)
  redis.call('ZADD', 'starting', int(ms), u.uid)
end

-- How many more starts may be worked on; a lease that is over counts no more.
local function starts_to_begin() return PENDING - redis.call('ZCOUNT', 'starting', int(NOW), '+inf') end

-- Starting, Live → Draining. Only `exited` ends that.
local function drain(u, reason)
  not_due(u, 'idle', 'start', 'lifetime', 'cancel', 'turn')
  no_start(u)
  rank(u, '-inf')
  set(u, 'state', 'draining', 'reason', reason)
  unset(u, 'idle_since', 'start_by')
  redis.call('ZADD', 'drains', int(NOW), job(u))
  nudge('drains', u)
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
  local t = redis.call('HMGET', key, 'lost', 'submitted_ms', 'tell', 'first_event', 'timeout_sec')
  local lost, told = num(t[1]), t[3] and t[3] ~= ''
  -- One that is only asked for its record is not another attempt.
  local attempt = told and math.max(lost, 1) or lost + 1
  local start = (u.served == '' and num(t[2]) <= num(u.ready_ms)) and 'cold' or 'warm'
  redis.call('HSET', key, 'status', 'running', 'attempt', int(attempt), 'taken_ms', int(NOW), 'start', start, 'delivered', '1')
  redis.call('HDEL', key, 'queued_reason', 'queued_position')
  redis.call('SREM', 'queued:' .. u.owner_key, id)
  if not told then redis.call('HINCRBY', 'hits:' .. u.owner_key, start, 1) end
  not_due(u, 'idle')
  if u.idle_since ~= '' then rank(u, '+inf') end
  set(u, 'taken', id, 'taken_ms', int(NOW), 'seq', '0', 'served', '1', 'first_event', t[4] or '')
  unset(u, 'seen', 'seq_id', 'idle_since', 'cancelled')
  -- From delivery, not from arrival. The worker ends its runner at the timeout itself; this is for one that does not.
  due_at('turn', u, NOW + num(t[5]) * 1000 + TURN_MARGIN_MS)
  if not told then unset(u, 'failed_starts', 'start_detail') end
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

