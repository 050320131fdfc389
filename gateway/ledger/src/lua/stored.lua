-- What goes again: turns with all that came with them, prompts and events that are over their time.

local function remove_turn(owner_key, uid, id)
  local t = redis.call('HMGET', 'turn:' .. id, 'stored', 'idem')
  if owner_key then store(owner_key, -num(t[1])) end
  redis.call('UNLINK', 'turn:' .. id)
  if t[2] and t[2] ~= '' then redis.call('DEL', t[2]) end
  redis.call('ZREM', 'unit:' .. uid .. ':turns', id)
  redis.call('ZREM', 'ages', 'prompt|' .. id, 'turn|' .. id)
end

-- The prompt of a settled turn is over its time; its head and its result stay for theirs.
local function age_prompt(owner_key, id, settled_ms)
  local bytes = redis.call('HSTRLEN', 'turn:' .. id, 'prompt')
  redis.call('HDEL', 'turn:' .. id, 'prompt')
  redis.call('HINCRBY', 'turn:' .. id, 'stored', int(-bytes))
  store(owner_key, -bytes)
  redis.call('ZADD', 'ages', int(settled_ms + TTL * 1000), 'turn|' .. id)
end

-- Events that are over their time, at most so many; those of turns that are not settled stay.
local function age_events(u, most)
  local from = NOW - DETAIL * 1000
  local id = head(u)
  local unsettled = id and redis.call('HGET', 'turn:' .. id, 'first_event')
  local next_ms
  shorten(u, function(_, _, oldest)
    local ms = tonumber(string.match(oldest(), '^%d+'))
    if ms > from then next_ms = ms + DETAIL * 1000 end
    -- A turn that is not settled yet: another look, later.
    if unsettled and not before(oldest(), unsettled) then next_ms = NOW + DETAIL * 1000 + 1000 end
    most = most - 1
    return not next_ms and most >= 0
  end)
  if redis.call('XLEN', 'unit:' .. u.uid .. ':out') > 0 then
    redis.call('ZADD', 'ages', int(next_ms or NOW), 'out|' .. u.uid)
  end
end
