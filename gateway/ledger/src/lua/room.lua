-- Room: how many units may have a workload, of an owner and in all.
--
-- A unit has a place from the script that enters Starting until `exited`: it is a member of live:<owner key> and of live. Who
-- finds no place stands in room:<owner key> or, with a place of its owner's already, in room; both by when it first did.
-- Whenever a script ends: as many of those who have a place drain as wait for one, or none of them is idle.

local function scopes(owner_key)
  return {
    { live = 'live:' .. owner_key, line = 'room:' .. owner_key, most = PER_OWNER, reason = 'owner cap' },
    { live = 'live', line = 'room', most = IN_ALL, reason = 'total cap' },
  }
end

-- How many of those in line have no place that is free or becomes so.
local function lacking(s)
  local line = redis.call('ZCARD', s.line)
  if line == 0 then return 0 end
  local stay = redis.call('ZCARD', s.live) - redis.call('ZCOUNT', s.live, '-inf', '-inf')
  return line - (s.most - stay)
end

-- Ends the least recently used idle units until that is enough.
local function make_room(s)
  for _ = 1, lacking(s) do
    local uid = redis.call('ZRANGEBYSCORE', s.live, '(-inf', '(+inf', 'LIMIT', 0, 1)[1]
    if not uid then return end
    drain(unit_of(uid), 'preempted')
  end
end

-- Whether the first in that line came before the given time.
local function came_before(s, ms)
  local first = redis.call('ZRANGE', s.line, 0, 0, 'WITHSCORES')
  return first[1] and tonumber(first[2]) < ms * 1000
end

-- Whether u's place is wanted by somebody who came before the given time (or, without one, at all).
local function crowded(u, ms)
  for _, s in ipairs(scopes(u.owner_key)) do
    if lacking(s) > 0 and (not ms or came_before(s, ms)) then return true end
  end
  return false
end

-- Places for u in both counts, or the count in which there is none. Out of turn, nobody overtakes who stands in line.
local function take_place(u, in_turn)
  for _, s in ipairs(scopes(u.owner_key)) do
    if not redis.call('ZSCORE', s.live, u.uid) then
      if redis.call('ZCARD', s.live) >= s.most or (not in_turn and redis.call('ZCARD', s.line) > 0) then return s end
      redis.call('ZADD', s.live, '+inf', u.uid)
      redis.call('SADD', 'owners', u.owner_key)
    end
  end
end

local function free_place(u)
  for _, s in ipairs(scopes(u.owner_key)) do redis.call('ZREM', s.live, u.uid) end
end

local start

-- Most units that one script tries to start with what became free: who waits may be many, and each may wait for something
-- else next. Lines that have more are written down and gone on with by `go_on`, one script after another.
local MOST_TRIES = 8
local tries = 0
local function one_more()
  tries = tries + 1
  return tries <= MOST_TRIES
end
local function unmoved(what) redis.call('SADD', 'unmoved', what) end

-- Gives free places to those who wait for them, in order; of this owner, of all, and of whom that concerns. Idle units are
-- ended for who still waits.
local function admit(owner_key)
  local lines, concerns = scopes(owner_key), { [owner_key] = true }
  while true do
    local uid, since, at
    for _, s in ipairs(lines) do
      if redis.call('ZCARD', s.live) < s.most then
        local first = redis.call('ZRANGE', s.line, 0, 0, 'WITHSCORES')
        if first[1] and (not uid or tonumber(first[2]) < since) then uid, since, at = first[1], tonumber(first[2]), s.line end
      end
    end
    if not uid then break end
    if not one_more() then
      for owner in pairs(concerns) do unmoved('room ' .. owner) end
      break
    end
    redis.call('ZREM', at, uid)
    local x = unit_of(uid)
    unset(x, 'room')
    if not (x.state == 'cold' and waiting(x) > 0 and start(x, nil, true)) and x.room == '' then
      -- It waits for something else now, or for nothing: the place of its owner's that it had is another's.
      free_place(x)
      if not concerns[x.owner_key] then
        concerns[x.owner_key] = true
        lines[#lines + 1] = scopes(x.owner_key)[1]
      end
    end
  end
  for _, s in ipairs(lines) do make_room(s) end
end

local function leave_room(u)
  if u.room == '' then return end
  redis.call('ZREM', u.room, u.uid)
  unset(u, 'room', 'room_since')
  free_place(u)
  admit(u.owner_key)
end

-- The unit stays cold and stands in line for a place; idle units are ended for it.
local function stand(u, s, id)
  local since = u.room_since
  if since == '' then since = int(clock[1] * 1000000 + clock[2]) end
  redis.call('ZADD', s.line, since, u.uid)
  set(u, 'room', s.line, 'room_since', since)
  queued(u, id, s.reason, redis.call('ZRANK', s.line, u.uid))
  make_room(s)
  -- The bound was raised meanwhile.
  if redis.call('ZCARD', s.live) < s.most then admit(u.owner_key) end
end

