#!lua flags=allow-oom
-- renew: extends leases and notes what each has used so far, should its worker die.
--
-- ARGV   1 now ('': the server's time), 2 lease in ms, then per reservation nine: id, team
--        record, key record (as the gateway knows them), key's end ('' never), 5 amounts so far
-- Returns per reservation 'live', or 'gone' (the lease ran out and was charged). Extended all
--        the same: 'expired' for a key past its end, and 'changed' where a record is not what
--        the gateway knows, so that it looks again.

local now = clock(ARGV[1])
local lease_end = int(now + tonumber(ARGV[2]))
sweep(now, SWEEP_AT_ONCE)
local reply = {}
for i = 3, #ARGV, 9 do
  local id = ARGV[i]
  local reservation = get(id)
  if not reservation or reservation.x then
    reply[#reply + 1] = 'gone'
  else
    reservation.c = amounts_at(i + 4)
    put(id, reservation)
    redis.call('ZADD', LEASES, lease_end, id)
    local records = redis.call('HMGET', RECORDS, 'team', 'key:' .. reservation.k)
    local same = records[1] == ARGV[i + 1] and records[2] == ARGV[i + 2]
    local ended = ARGV[i + 3] ~= '' and now >= tonumber(ARGV[i + 3])
    reply[#reply + 1] = not same and 'changed' or ended and 'expired' or 'live'
  end
end
save(now)
return reply
