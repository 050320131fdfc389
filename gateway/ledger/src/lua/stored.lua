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
  local bytes = redis.call('HSTRLEN', 'turn:' .. id, 'prompt') + redis.call('HSTRLEN', 'turn:' .. id, 'prompt_head')
  redis.call('HDEL', 'turn:' .. id, 'prompt', 'prompt_head')
  redis.call('HINCRBY', 'turn:' .. id, 'stored', int(-bytes))
  store(owner_key, -bytes)
  redis.call('ZADD', 'ages', int(settled_ms + TTL * 1000), 'turn|' .. id)
end

-- Events that are over their time, at most so many; those of turns that are not settled stay.
local function age_events(u, most)
  local out, from = 'unit:' .. u.uid .. ':out', NOW - DETAIL * 1000
  local id = head(u)
  local unsettled = id and redis.call('HGET', 'turn:' .. id, 'first_event')
  local to = int(from)
  if unsettled and num(string.match(unsettled, '^%d+')) <= from then to = '(' .. unsettled end
  shorten(u, function()
    most = most - 1
    return most >= 0 and to
  end)
  if redis.call('XLEN', out) == 0 then return end
  -- More of them at once, or when the next one's time is over; a turn that is not settled yet is looked at again later.
  local next_ms = NOW
  if most >= 0 then
    local first = redis.call('XRANGE', out, '-', '+', 'COUNT', 1)[1][1]
    local written = num(string.match(first, '^%d+'))
    next_ms = (written > from and written or NOW + 1000) + DETAIL * 1000
  end
  redis.call('ZADD', 'ages', int(next_ms), 'out|' .. u.uid)
end
