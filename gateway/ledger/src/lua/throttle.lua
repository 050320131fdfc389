-- Leave for some of an owner's requests, by the generic cell rate algorithm: rate:<owner key> is the time, in µs, at which
-- the owner's bucket is full again. With `whole` all that is wanted passes when one may; what is more than there is holds up
-- those that come later. While Redis takes no writes nobody is held up.
local key, rate, burst, wanted, whole = 'rate:' .. A[1], num(A[2]), num(A[3]), num(A[4]), A[5] == '1'
local now, interval = clock[1] * 1000000 + clock[2], 1000000 / rate
local full_at = math.max(num(redis.call('GET', key)), now)
local room = burst * interval - (full_at - now)
-- Half a µs for what rounding took.
local leave = math.floor((room + 0.5) / interval)
if leave < 1 then return { 'wait', 'ms', int(math.ceil((interval - room) / 1000)) } end
if whole then leave = wanted else leave = math.min(leave, wanted) end
full_at = full_at + leave * interval
redis.pcall('SET', key, int(full_at), 'PX', int(math.ceil((full_at - now) / 1000) + 1))
return { 'go', 'leave', int(leave) }
