-- Id of a unit's last event, kept or not. The event itself may be large and stays here.
local u = fields_of('unit:' .. A[1], 'trimmed_to')
u.uid = A[1]
return { 'last', 'id', last_event(u) }
