-- include: reservations
-- include: tallies
-- include: buckets
-- include: charging
-- include: rows
-- Frees leases that have run out: the last count is charged, the rest is free again.
local function sweep(most)
  local ids = {}
  if spared <= now or spared - now > SPARE then
    ids = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, most)
  end
  for _, id in ipairs(ids) do
    local reservation, packed = get(id)
    local counted = {unpack(reservation, COUNTED + 1, COUNTED + 6)}
    local fields = fields_of(reservation, packed)
    local counters = redis.call('HMGET', COUNTERS, unpack(fields))
    charge(reservation, packed, fields, counters, counted)
    add_row(reservation, reservation[PROVIDER], counted, 0, 0)
    local expired = string.sub(packed, 1, 8) .. struct.pack('<d', 2) .. string.sub(packed, 17)
    redis.call('HSET', RESERVATIONS, id, expired)
    redis.call('ZREM', LEASES, id)
    redis.call('ZADD', EXPIRED, now, id)
  end
  local old = redis.call('ZRANGEBYSCORE', EXPIRED, '-inf', now - KEEP_EXPIRED, 'LIMIT', 0, most)
  for _, id in ipairs(old) do
    redis.call('HDEL', RESERVATIONS, id)
    redis.call('ZREM', EXPIRED, id)
  end
  local lease = redis.call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2]
  local expiry = redis.call('ZRANGE', EXPIRED, 0, 0, 'WITHSCORES')[2]
  due = math.min(lease or math.huge, expiry and expiry + KEEP_EXPIRED or math.huge)
  return #ids
end
