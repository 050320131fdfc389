-- The next events in (from, to], at most so many, and up to where the stream was trimmed.
local out = redis.call('XRANGE', 'unit:' .. A[1] .. ':out', '(' .. A[2], A[3], 'COUNT', A[4])
return { redis.call('HGET', 'unit:' .. A[1], 'trimmed_to'), out }
