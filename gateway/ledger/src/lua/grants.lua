-- Workspaces that belong to another owner and were granted: `ws:<id>:grants` has for each grantee `<mode> <owner key>`.

-- An id in the form of a uid names that unit's own workspace.
local function own_name(w) return #w == 26 and string.match(w, '^u[a-z2-7]+$') ~= nil end

local function granted(w, owner)
  local grant = redis.call('HGET', 'ws:' .. w .. ':grants', owner)
  return grant and words(grant)[1]
end

-- The first of a turn's foreign workspaces (`<mode> <id> …`) that its owner was not granted at that mode.
local function ungranted(foreign, owner)
  local list = words(foreign)
  for i = 1, #list, 2 do
    local mode = granted(list[i + 1], owner)
    if not mode or (list[i] == 'rw' and mode ~= 'rw') then return list[i + 1] end
  end
end

-- Units that mount a workspace which is not their own, from their start until their workload is gone: in `ws:<id>:guests` as
-- `<owner key> <mode> <uid>`; in `ws:<id>:leaving`, by uid, once they are ended for it.
local function be_guest(u, mounts)
  if mounts == '' then return end
  local list = words(mounts)
  for i = 1, #list, 2 do
    redis.call('ZADD', 'ws:' .. list[i + 1] .. ':guests', 0, u.owner_key .. ' ' .. list[i] .. ' ' .. u.uid)
  end
  set(u, 'guest_of', mounts)
end

local function guest_leaves(u)
  if u.guest_of == '' then return end
  local list = words(u.guest_of)
  for i = 1, #list, 2 do
    redis.call('ZREM', 'ws:' .. list[i + 1] .. ':guests', u.owner_key .. ' ' .. list[i] .. ' ' .. u.uid)
    redis.call('SREM', 'ws:' .. list[i + 1] .. ':leaving', u.uid)
  end
  unset(u, 'guest_of')
end

-- Ends the workers that mount what they may not mount any more: an owner's, or only those of them that may write, or all.
local function evict(w, owner_key, mode)
  local guests = 'ws:' .. w .. ':guests'
  local prefix = owner_key and owner_key .. ' ' .. (mode and mode .. ' ' or '') or ''
  -- `~` is behind every character of a key, a mode and a uid.
  for _, guest in ipairs(redis.call('ZRANGE', guests, '[' .. prefix, '(' .. prefix .. '~', 'BYLEX')) do
    redis.call('ZREM', guests, guest)
    local x = unit_of(words(guest)[3])
    redis.call('SADD', 'ws:' .. w .. ':leaving', x.uid)
    if x.state ~= 'draining' then drain(x, 'stopped') end
  end
end

-- Whether a worker may still mount it that is not the unit's whose own it is.
local function has_guests(w)
  return redis.call('ZCARD', 'ws:' .. w .. ':guests') > 0 or redis.call('SCARD', 'ws:' .. w .. ':leaving') > 0
end

-- Nobody is granted the owner's workspace any more, and whoever mounts it is ended; whether there are workers that must be gone
-- before its folder is.
local function end_grants(w, owner_key)
  local list = 'ws:' .. w .. ':grants'
  store(owner_key, -NAME * redis.call('HLEN', list))
  redis.call('DEL', list)
  evict(w)
  return has_guests(w)
end
