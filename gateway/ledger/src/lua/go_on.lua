-- A line that an earlier script left before it was through with it: gone on with, for as many tries as a script has.
local what = redis.call('SPOP', 'unmoved')
if not what then return { 'nothing' } end
local kind, name = string.match(what, '^(%a+) (.*)$')
if kind == 'line' then give_on({ name }) else admit(name) end
return { redis.call('SCARD', 'unmoved') > 0 and 'more' or 'nothing' }
