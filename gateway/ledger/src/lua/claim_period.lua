-- Whether a periodic task is this process' to do in this period.
local mine = redis.call('SET', 'period:' .. A[1], GW, 'NX', 'PX', A[2])
return { mine and 'mine' or 'taken' }
