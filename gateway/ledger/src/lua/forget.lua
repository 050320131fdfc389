-- The folders of an erased unit are in the trash: its record and streams go.
local uid, u = A[1], unit_of(A[1])
if u.state ~= 'cold' or u.erasing == '' then return { 'no' } end
redis.call('DEL', 'unit:' .. uid, 'unit:' .. uid .. ':in', 'unit:' .. uid .. ':out', 'unit:' .. uid .. ':turns',
  'ws:' .. uid, 'ws:' .. uid .. ':line', 'ws:' .. uid .. ':grants')
redis.call('ZREM', A[2], u.name)
redis.call('ZREM', 'erasures', uid)
return { 'forgotten' }
