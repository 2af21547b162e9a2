#!lua flags=allow-oom
-- settle: charges a reservation what it really used, at most once.
--
-- ARGV   1 now ('': the server's time), 2 id, 3 provider, 4 packed, seven doubles: amounts, cached
--        tokens, image tokens; 5 '1': a reserve may still be on its way, and must then fail
-- Returns {'settled', writing}; 'late' where the lease had run out and the difference was
--        charged; {'absent'} where it was settled before, or never made: nothing is charged.

-- include: layout
-- include: reservations
local id, provider, void = ARGV[2], ARGV[3], ARGV[5] == '1'
-- Read before anything is written: a script that fails undoes nothing.
local requests, input, output, images, usd, cached, image = struct.unpack('<ddddddd', ARGV[4])
local reservation, packed = get(id)
-- Nothing is changed, so the clock is left as it is: this is no writing, and tells no number.
if packed == '' or not (reservation or void) then return {'absent'} end

local fields = fields_of(reservation, packed)
local counters = redis.call('HMGET', COUNTERS, unpack(fields))
-- include: clock
local late = reservation and reservation[STATE] == 2
redis.call('ZREM', late and EXPIRED or LEASES, id)
if void then
  redis.call('HSET', RESERVATIONS, id, '')
  redis.call('ZADD', EXPIRED, now + KEEP_VOID - KEEP_EXPIRED, id)
  due = math.min(due, now + KEEP_VOID)
else
  redis.call('HDEL', RESERVATIONS, id)
end
if not reservation then
  redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today))
  return {'absent'}
end

-- include: tallies
-- include: buckets
-- include: charging
-- include: rows
local amounts = {requests, input, output, images, usd, input + output}
charge(reservation, packed, fields, counters, amounts)
if late then
  -- What the sweep charged stands under the provider that was reserved: move it here.
  local back = {}
  for i = 1, 6 do back[i] = -reservation[COUNTED + i] end
  add_row(reservation, reservation[PROVIDER], back, 0, 0)
end
add_row(reservation, provider, amounts, cached, image)
if now >= due then
  -- include: sweeping
  sweep(SWEEP_AT_ONCE)
  redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today))
end
return {late and 'late' or 'settled', writings}
