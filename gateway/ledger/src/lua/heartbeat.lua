-- Keeps this gateway's mailbox for another minute, and drops what was read. Tells whether it had to be made.
local key = 'mail:' .. GW
local there = redis.call('EXISTS', key) == 1
if there then
  redis.call('XTRIM', key, 'MINID', A[1])
else
  mail(GW, 'kind', 'hello')
end
redis.call('PEXPIRE', key, 60000)
return { there and 'beat' or 'made' }
