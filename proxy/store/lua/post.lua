#!lua flags=allow-oom
-- post: charges a request that was admitted while the store was out of reach, at most once.
--
-- ARGV   1 now ('': the server's time), 2 id, 3 key id, 4 model, 5 provider, 6 admission in ms,
--        7-11 amounts, 12 cached tokens, 13 image tokens, then of each bucket that it fills three:
--        field, amount, which of a request's amounts it counts
-- Returns {'posted', writing}, or {'absent'} where it was posted before.

-- include: layout
-- include: reservations
local id, request = ARGV[2], {[KEY] = ARGV[3], [MODEL] = ARGV[4], [BUCKETS] = 1}
if redis.call('HEXISTS', RESERVATIONS, id) == 1 then return {'absent'} end

local fields = fields_of(request, '')
for i = 14, #ARGV, 3 do fields[#fields + 1] = ARGV[i] end
local counters = redis.call('HMGET', COUNTERS, unpack(fields))
-- include: clock
-- include: amounts
-- include: tallies
-- include: buckets
-- include: rows
local amounts, nothing, words = amounts_at(7), {0, 0, 0, 0, 0, 0}, {}
local cached, image = tonumber(ARGV[12]), tonumber(ARGV[13])
-- What cannot be read fails here, before anything is written: a script that fails undoes nothing.
local admitted = math.min(tonumber(ARGV[6]), now)
assert(amounts[1] and amounts[4] and amounts[5] and cached and image, 'a figure is no number')
for i = 6, #fields do
  local amount, part = tonumber(ARGV[3 * i - 3]), tonumber(ARGV[3 * i - 2])
  words[#words + 1], words[#words + 2] = fields[i], fill(counters[i], amount, amounts[part])
end
for i = 2, 5 do
  words[#words + 1], words[#words + 2] = fields[i],
    add(fields[i], counters[i], writings, math.floor(admitted / HOUR), 0, amounts, nothing)
end
redis.call('HSET', COUNTERS, unpack(words))
request[ADMITTED] = admitted
add_row(request, ARGV[5], amounts, cached, image)
redis.call('HSET', RESERVATIONS, id, '')
redis.call('ZADD', EXPIRED, now, id)
due = math.min(due, now + KEEP_EXPIRED)
if now >= due then
  -- include: sweeping
  sweep(SWEEP_AT_ONCE)
end
redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today))
return {'posted', writings}
