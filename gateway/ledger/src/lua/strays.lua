-- Which of these (uid, generation, …) are of no current generation, and whether that has been so for a grace. What is given
-- out as due is another reaper's only after a lease; what is not named any more is forgotten.
local key, grace, lease, named, list = 'strays:' .. A[1], num(A[2]), num(A[3]), {}, {}
for i = 4, #A, 2 do
  local uid, gen = A[i], A[i + 1]
  local member = uid .. '|' .. gen
  local u = redis.call('HMGET', 'unit:' .. uid, 'state', 'gen')
  if u[2] ~= gen or u[1] == 'cold' then
    named[member] = true
    redis.call('ZADD', key, 'NX', int(NOW + grace), member)
    local due = num(redis.call('ZSCORE', key, member)) <= NOW
    if due then redis.call('ZADD', key, int(NOW + lease), member) end
    list[#list + 1] = { 'uid', uid, 'gen', gen, 'due', due and '1' or '' }
  end
end
for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  if not named[member] then redis.call('ZREM', key, member) end
end
return list
