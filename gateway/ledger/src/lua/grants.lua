-- Workspaces that belong to another owner and were granted: `ws:<id>:grants` has for each grantee `<mode> <owner key>`; the
-- mode is `no` once the workspace is being erased.

-- An id in the form of a uid names that unit's own workspace.
local function own_name(w) return #w == 26 and string.match(w, '^u[a-z2-7]+$') ~= nil end

local function granted(w, owner)
  local grant = redis.call('HGET', 'ws:' .. w .. ':grants', owner)
  local mode = grant and words(grant)[1]
  if mode ~= 'no' then return mode end
end

-- The first of a turn's foreign workspaces (`<mode> <id> …`) that its owner was not granted at that mode.
local function ungranted(foreign, owner)
  local list = words(foreign)
  for i = 1, #list, 2 do
    local mode = granted(list[i + 1], owner)
    if not mode or (list[i] == 'rw' and mode ~= 'rw') then return list[i + 1] end
  end
end

-- Units of an owner that have a worker which mounts the workspace; only those that may write to it, if so asked.
local function mounters(owner_key, w, writers)
  local list = {}
  for _, uid in ipairs(redis.call('ZRANGE', 'live:' .. owner_key, 0, -1)) do
    local x = unit_of(uid)
    if x.state ~= 'cold' and x.shape ~= '' then
      for _, at in ipairs(cjson.decode(x.shape).workspaces) do
        if at.id == w and (at.mode == 'rw' or not writers) then list[#list + 1] = x end
      end
    end
  end
  return list
end

-- Ends the workers that mount what their owner may not mount any more.
local function evict(owner_key, w, writers)
  local units = mounters(owner_key, w, writers)
  for _, x in ipairs(units) do
    if x.state ~= 'draining' then drain(x, 'stopped') end
  end
  return #units
end

-- Nobody is granted the workspace any more; whether there are workers that must be gone before its folder is.
local function end_grants(w)
  local list, mounted = 'ws:' .. w .. ':grants', false
  local grants = redis.call('HGETALL', list)
  for i = 1, #grants, 2 do
    local owner_key = words(grants[i + 1])[2]
    redis.call('HSET', list, grants[i], 'no ' .. owner_key)
    if evict(owner_key, w, false) > 0 then mounted = true end
  end
  return mounted
end
