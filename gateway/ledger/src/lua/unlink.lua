-- A reading connection is gone: cleared only if it is still the link.
local u = unit_of(A[1])
if u.gen == A[2] and u.link_gw == GW and u.link_conn == A[3] then unset(u, 'link_gw', 'link_conn') end
return { 'ok' }
