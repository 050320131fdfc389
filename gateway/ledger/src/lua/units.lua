-- Units' records, each with how many turns of it are not settled. (In a transaction Redis refuses even reads while it is full.)
local list = {}
for _, uid in ipairs(A) do
  list[#list + 1] = { redis.call('HGETALL', 'unit:' .. uid), redis.call('XLEN', 'unit:' .. uid .. ':in') }
end
return list
