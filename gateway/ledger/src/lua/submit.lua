-- A turn comes in. Cold → Starting, or taken by a live idle worker, or it waits; all in this one script.
-- What a list of turns shows of a prompt.
local HEAD_BYTES = 1024
local uid, id, owner, name, owner_key = A[1], A[2], A[3], A[4], A[5]
local all, rw, idem, body, most, most_of_owner = A[15], A[16], A[20], A[21], num(A[22]), num(A[23])

if idem ~= '' then
  local known = words(redis.call('GET', idem) or '')
  if known[1] and known[1] ~= id then
    if known[3] ~= body then return { 'reused' } end
    -- A write, so that a WAIT behind this waits for what was accepted then on another connection.
    redis.call('SET', idem, redis.call('GET', idem), 'KEEPTTL')
    return { 'replayed', 'turn', known[1], 'uid', known[2], 'after', redis.call('HGET', 'turn:' .. known[1], 'after') or '0-0' }
  end
end

local u = unit_of(uid)
local seen = redis.call('HMGET', 'turn:' .. id, 'after', 'position')
if seen[1] then
  -- Asked again after an unknown outcome: whatever was given to this gateway is given again. A write, as above.
  redis.call('HSET', 'turn:' .. id, 'after', seen[1])
  local reply = { 'accepted', 'after', seen[1], 'position', seen[2] }
  if u.taken == id and u.seen == '' and u.link_gw == GW and u.state == 'live' then
    append(reply, message(u, id, true))
    append(reply, { 'connection', u.link_conn })
  elseif u.state == 'starting' and u.start_by == GW then
    append(reply, start_fields(u))
  end
  return reply
end

if u.erasing ~= '' then return { 'erasing' } end
local foreign, writes = {}, {}
for _, w in ipairs(words(rw)) do writes[w] = true end
for _, w in ipairs(words(all)) do
  -- An id in the form of a uid names that unit's own workspace.
  local own = #w == 26 and string.match(w, '^u[a-z2-7]+$')
  local whose = redis.call('HGET', 'ws:' .. w, 'owner')
  if (own and w ~= uid) or (whose and whose ~= owner) then
    local mode = granted(w, owner)
    if not mode then return { 'workspace', 'id', w } end
    if writes[w] and mode ~= 'rw' then return { 'read_only', 'id', w } end
    foreign[#foreign + 1] = (writes[w] and 'rw ' or 'ro ') .. w
  end
end
local position = waiting(u)
if position - (u.taken ~= '' and 1 or 0) >= most then return { 'full', 'of', 'unit' } end
if redis.call('SCARD', 'queued:' .. owner_key) >= most_of_owner then return { 'full', 'of', 'owner' } end

if u.state == '' then
  set(u, 'uid', uid, 'owner', owner, 'owner_key', owner_key, 'name', name, 'state', 'cold', 'created_ms', int(NOW))
  redis.call('ZADD', 'owner:' .. owner_key .. ':units', 0, name)
end
for _, w in ipairs(words(all)) do redis.call('HSETNX', 'ws:' .. w, 'owner', owner) end
if idem ~= '' then redis.call('SET', idem, id .. ' ' .. uid .. ' ' .. body, 'EX', TTL) end
local after = last_event(u)
local entry = redis.call('XADD', 'unit:' .. uid .. ':in', '*', 'turn', id)
redis.call('HSET', 'turn:' .. id, 'id', id, 'uid', uid, 'owner', owner, 'unit', name, 'status', 'queued', 'prompt', A[6],
  'prompt_head', beginning(A[6], HEAD_BYTES), 'cut', #A[6] > HEAD_BYTES and '1' or '',
  'prompt_path', A[7], 'thread', A[8], 'session', A[9], 'trigger', A[10], 'launcher', A[11], 'options', A[12], 'shape', A[13],
  'shape_hash', A[14], 'rw', rw, 'policy', A[17], 'timeout_sec', A[18], 'traceparent', A[19], 'entry', entry,
  'submitted_ms', int(NOW), 'after', after, 'position', int(position))
if foreign[1] then redis.call('HSET', 'turn:' .. id, 'foreign', table.concat(foreign, ' ')) end
redis.call('ZADD', 'unit:' .. uid .. ':turns', 0, id)
redis.call('SADD', 'queued:' .. owner_key, id)

local reply = { 'accepted', 'after', after, 'position', int(position) }
if position > 0 then
  local reason = 'unit busy'
  if u.waits_for ~= '' then reason = 'workspace ' .. u.waits_for end
  if u.room ~= '' then reason = u.room == 'room' and 'total cap' or 'owner cap' end
  queued(u, id, reason, position)
end
if u.state == 'cold' and u.waits_for == '' and u.room == '' then
  if start(u, GW) and u.start_by == GW then append(reply, start_fields(u)) end
elseif u.state == 'live' and u.taken == '' then
  next_turn(u, reply, id)
end
return reply
