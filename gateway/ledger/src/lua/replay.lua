-- Events of an out-stream after an id, up to another one: so many entries and bytes at most, but one in any case if it is
-- asked for with its bytes. Reads only.
local uid, after, to, most_bytes, most = A[1], A[2], A[3], num(A[4]), num(A[5])
-- Few at a time: each may have half a megabyte, and what is not handed on was read for nothing.
local STRIDE = 4
local out, bytes, reply = 'unit:' .. uid .. ':out', 0, {}
local function answer(word, ...)
  return { word, redis.call('HGET', 'unit:' .. uid, 'trimmed_to') or '0-0', ... }
end
while #reply < 2 * most do
  local page = redis.call('XRANGE', out, '(' .. after, to, 'COUNT', STRIDE)
  for _, entry in ipairs(page) do
    local json = entry[2][2]
    if bytes + #json > most_bytes then
      if bytes == 0 then return answer('large', int(#json)) end
      return answer('more', unpack(reply))
    end
    after, bytes = entry[1], bytes + #json
    append(reply, { after, json })
  end
  if #page < STRIDE then return answer('all', unpack(reply)) end
end
return answer('more', unpack(reply))
