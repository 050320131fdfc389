-- Id of a unit's last event. The event itself may be large and stays here.
return { 'last', 'id', last_event({ uid = A[1] }) }
