#!lua flags=allow-oom
-- renew: extends leases and notes what each has used so far, should its worker die.
--
-- ARGV   1 now ('': the server's time), 2 lease in ms, then per reservation eight: id,
--        team record, key record (as the gateway knows them), 5 amounts so far
-- Returns per reservation 'live', 'gone' (the lease ran out and was charged), or 'changed'
--        where a record is not what the gateway knows: extended all the same, look again.

local now = clock(ARGV[1])
local lease_end = int(now + tonumber(ARGV[2]))
sweep(now, SWEEP_AT_ONCE)
local reply = {}
for i = 3, #ARGV, 8 do
  local id = ARGV[i]
  local reservation = get(id)
  if not reservation or reservation.x then
    reply[#reply + 1] = 'gone'
  else
    reservation.c = amounts_at(i + 3)
    put(id, reservation)
    redis.call('ZADD', LEASES, lease_end, id)
    local records = redis.call('HMGET', RECORDS, 'team', 'key:' .. reservation.k)
    local same = records[1] == ARGV[i + 1] and records[2] == ARGV[i + 2]
    reply[#reply + 1] = same and 'live' or 'changed'
  end
end
save(now)
return reply
