-- A way out of the sandbox was refused: told in the running turn, once for each host, and of so many hosts at most.
local uid, gen, host, setting, most = A[1], A[2], A[3], A[4], num(A[5])
local u = unit_of(uid)
if u.gen ~= gen or u.state == 'cold' then return { 'over' } end
if u.state == 'starting' or u.taken == '' then return { 'stale' } end
local key, told = 'turn:' .. u.taken, 0
local denied = redis.call('HGET', key, 'denied') or ''
for before_ in string.gmatch(denied, '%S+') do
  if before_ == host then return { 'repeat' } end
  told = told + 1
end
if told >= most then return { 'enough' } end
redis.call('HSET', key, 'denied', denied .. host .. ' ')
tell(u, 'egress-denied', u.taken, ',"host":' .. quote(host) .. ',"setting":' .. quote(setting))
return { 'told' }
