#!lua flags=allow-oom
-- settle: charges a reservation what it really used, at most once.
--
-- ARGV   1 now ('': the server's time), 2 id, 3 provider, 4-8 amounts, 9 cached tokens,
--        10 image tokens, 11 '1': a reserve may still be on its way, and must then fail
-- Returns {'settled', writing}; 'late' where the lease had run out and the difference was
--        charged; {'absent'} where it was settled before, or never made: nothing is charged.

local id, provider = ARGV[2], ARGV[3]
local amounts, cached, image = amounts_at(4), tonumber(ARGV[9]), tonumber(ARGV[10])
local reservation = get(id)
if reservation and reservation.v then return {'absent'} end

if reservation then read_tallies(reservation.k, reservation.m) end
local now = clock(ARGV[1])

if reservation and reservation.x then
  -- What the sweep charged stands under the provider that was reserved: move it here.
  local back = negative(reservation.c)
  add(reservation, back, NOTHING)
  add(reservation, amounts, NOTHING)
  refill(reservation, now, reservation.c, amounts)
  add_row(reservation, reservation.p, back, 0, 0)
  add_row(reservation, provider, amounts, cached, image)
  redis.call('ZREM', EXPIRED, id)
elseif reservation then
  post(id, reservation, now, provider, amounts, cached, image)
end
if ARGV[11] == '1' then
  put(id, {x = 1, v = 1})
  redis.call('ZADD', EXPIRED, int(now - KEEP_EXPIRED + KEEP_VOID), id)
else
  redis.call('HDEL', RESERVATIONS, id)
end
if not reservation then return {'absent'} end

sweep(now, SWEEP_AT_ONCE)
return {reservation.x and 'late' or 'settled', save(now)}
