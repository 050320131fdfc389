-- The folders of an erased unit are in the trash: its turns go, so many at a time, then its record and streams.
local uid, u = A[1], unit_of(A[1])
if u.state ~= 'cold' or u.erasing == '' or waiting(u) > 0 then return { 'no' } end
local most = 100
local turns = redis.call('ZRANGE', 'unit:' .. uid .. ':turns', 0, most - 1)
for _, id in ipairs(turns) do remove_turn(u.owner_key, uid, id) end
if #turns == most then return { 'more' } end
local events = redis.call('XLEN', 'unit:' .. uid .. ':out')
store(u.owner_key, -(UNIT + num(u.out_bytes) + EVENT * events + NAME * redis.call('HLEN', 'ws:' .. uid .. ':grants')))
redis.call('UNLINK', 'unit:' .. uid, 'unit:' .. uid .. ':in', 'unit:' .. uid .. ':out', 'unit:' .. uid .. ':turns',
  'ws:' .. uid, 'ws:' .. uid .. ':line', 'ws:' .. uid .. ':grants')
redis.call('ZREM', 'owner:' .. u.owner_key .. ':units', u.name)
redis.call('ZREM', 'erasures', uid)
redis.call('ZREM', 'ages', 'out|' .. uid)
return { 'forgotten' }
