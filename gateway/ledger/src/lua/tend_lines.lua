-- Lines for workspaces that nobody moves: whoever is first starts when the holder holds nothing; an idle holder is ended.
local list = {}
for _, w in ipairs(redis.call('SRANDMEMBER', 'lines', A[1])) do
  local uid = first_in_line(w)
  local holder = uid and holder_of(w, uid)
  if not uid then
    redis.call('SREM', 'lines', w)
  elseif not holder then
    redis.call('HDEL', 'ws:' .. w, 'holder')
    redis.call('ZREM', 'ws:' .. w .. ':line', uid)
    local x = unit_of(uid)
    unset(x, 'waits_for', 'wait_since')
    if waiting(x) > 0 then start(x) end
    list[#list + 1] = { 'workspace', w, 'uid', uid }
  else
    local h = unit_of(holder)
    if h.state == 'live' and h.taken == '' and waiting(h) == 0 then
      drain(h, 'preempted')
      list[#list + 1] = { 'workspace', w, 'uid', uid }
    end
  end
end
return list
