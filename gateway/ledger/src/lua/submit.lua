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
    redis.call('SET', idem, redis.call('GET', idem))
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
local foreign, mounts, writes, named, fresh, once = {}, {}, {}, {}, {}, {}
for _, w in ipairs(words(rw)) do writes[w] = true end
for _, w in ipairs(words(all)) do
  local own = own_name(w)
  local x = redis.call('HMGET', 'ws:' .. w, 'owner', 'erasing')
  local whose, as = x[1], (writes[w] and 'rw ' or 'ro ') .. w
  if w ~= uid and not once[w] then
    once[w], mounts[#mounts + 1] = true, as
    if not own then named[#named + 1] = w end
    if not own and not whose then fresh[#fresh + 1] = w end
  end
  if (own and w ~= uid) or (whose and whose ~= owner) then
    local mode = granted(w, owner)
    if not mode then return { 'workspace', 'id', w } end
    if writes[w] and mode ~= 'rw' then return { 'read_only', 'id', w } end
    foreign[#foreign + 1] = as
  end
  if x[2] then return { 'erasing_workspace', 'id', w } end
end
local position = waiting(u)
if position - (u.taken ~= '' and 1 or 0) >= most then return { 'full', 'of', 'unit' } end
if redis.call('SCARD', 'queued:' .. owner_key) >= most_of_owner then return { 'full', 'of', 'owner' } end
if num(redis.call('GET', 'open')) >= MOST_OPEN then return { 'full', 'of', 'all' } end

local record = { 'prompt', A[6], 'prompt_head', beginning(A[6], HEAD_BYTES), 'prompt_path', A[7], 'thread', A[8],
  'session', A[9], 'launcher', A[11], 'options', A[12], 'shape', A[13], 'rw', rw, 'policy', A[17], 'traceparent', A[19], 'idem', idem, 'mounts', table.concat(mounts, ' '),
  'foreign', table.concat(foreign, ' ') }
local of_turn = TURN + ENDING
for i = 2, #record, 2 do of_turn = of_turn + #record[i] end
local units, claimed = 'owner:' .. owner_key .. ':units', 'owner:' .. owner_key .. ':workspaces'
local bytes = of_turn + NAME * #fresh
if u.state == '' then
  bytes = bytes + UNIT
  if redis.call('ZCARD', units) >= MOST_UNITS then return { 'stored', 'what', 'units', 'most', int(MOST_UNITS) } end
end
if redis.call('SCARD', claimed) + #fresh > MOST_NAMES then
  return { 'stored', 'what', 'workspaces', 'most', int(MOST_NAMES) }
end
if stored(owner_key) + bytes > MOST_BYTES then return { 'stored', 'what', 'bytes', 'most', int(MOST_BYTES) } end

store(owner_key, bytes)
redis.call('INCR', 'open')
if u.state == '' then
  set(u, 'uid', uid, 'owner', owner, 'owner_key', owner_key, 'name', name, 'state', 'cold', 'created_ms', int(NOW))
  redis.call('ZADD', units, 0, name)
end
for _, w in ipairs(words(all)) do redis.call('HSETNX', 'ws:' .. w, 'owner', owner) end
for _, w in ipairs(fresh) do redis.call('SADD', claimed, w) end
for _, w in ipairs(named) do redis.call('HINCRBY', 'ws:' .. w, 'open', 1) end
if idem ~= '' then redis.call('SET', idem, id .. ' ' .. uid .. ' ' .. body) end
local after = last_event(u)
local entry = redis.call('XADD', 'unit:' .. uid .. ':in', '*', 'turn', id)
append(record, { 'id', id, 'uid', uid, 'owner', owner, 'unit', name, 'status', 'queued', 'trigger', A[10], 'shape_hash', A[14],
  'timeout_sec', A[18], 'entry', entry, 'submitted_ms', int(NOW), 'after', after, 'position', int(position),
  'cut', #A[6] > HEAD_BYTES and '1' or '', 'stored', int(of_turn) })
redis.call('HSET', 'turn:' .. id, unpack(record))
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
