#!lua flags=allow-oom
-- renew: extends leases and notes what each has used so far, should its worker die.
--
-- ARGV   1 now ('': the server's time), 2 lease in ms, then per reservation nine: id, team
--        record, key record (as the gateway knows them), key's end ('' never), 5 amounts so far
-- Returns per reservation 'live', or 'gone' (the lease ran out and was charged). Extended all
--        the same: 'expired' for a key past its end, and 'changed' where a record is not what
--        the gateway knows, so that it looks again.

-- include: layout
-- include: reservations
-- include: amounts
local counters = redis.call('HMGET', COUNTERS, 'clock')
-- include: clock
if now >= due then
  -- include: sweeping
  sweep(SWEEP_AT_ONCE)
end
local lease_end = now + tonumber(ARGV[2])
local reply = {}
for i = 3, #ARGV, 9 do
  local id = ARGV[i]
  local reservation, packed = get(id)
  if not reservation or reservation[STATE] == 2 then
    reply[#reply + 1] = 'gone'
  else
    local counted = struct.pack('<dddddd', unpack(amounts_at(i + 4)))
    -- Eight numbers are before it, and six are in it.
    packed = string.sub(packed, 1, 64) .. counted .. string.sub(packed, 113)
    redis.call('HSET', RESERVATIONS, id, packed)
    redis.call('ZADD', LEASES, lease_end, id)
    local records = redis.call('HMGET', RECORDS, 'team', 'key:' .. reservation[KEY])
    local same = records[1] == ARGV[i + 1] and records[2] == ARGV[i + 2]
    local ended = ARGV[i + 3] ~= '' and now >= tonumber(ARGV[i + 3])
    reply[#reply + 1] = not same and 'changed' or ended and 'expired' or 'live'
  end
end
due = math.min(due, lease_end)
redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today))
return reply
