-- What was kept for its time goes: prompts and events of settled turns, later the turns. At most so many looks, each at a few
-- events at most; how many there were.
local members = redis.call('ZRANGEBYSCORE', 'ages', '-inf', int(NOW), 'LIMIT', 0, A[1])
for _, member in ipairs(members) do
  redis.call('ZREM', 'ages', member)
  local kind, id = string.match(member, '^(%a+)|(%w+)$')
  if kind == 'out' then
    local u = unit_of(id)
    if u.state ~= '' then age_events(u, 100) end
  else
    local t = redis.call('HMGET', 'turn:' .. id, 'uid', 'settled_ms')
    local owner_key = t[1] and redis.call('HGET', 'unit:' .. t[1], 'owner_key')
    if owner_key and kind == 'prompt' then age_prompt(owner_key, id, num(t[2])) end
    if t[1] and kind == 'turn' then remove_turn(owner_key, t[1], id) end
  end
end
return { 'aged', 'looks', int(#members) }
