#!lua flags=allow-oom
-- post: charges a request that was admitted while the store was out of reach, at most once.
--
-- ARGV   1 now ('': the server's time), 2 id, 3 key id, 4 model, 5 provider, 6 admission in ms,
--        7-11 amounts, 12 cached tokens, 13 image tokens, 14... limits, whose buckets it fills
-- Returns {'posted', writing}, or {'absent'} where it was posted before.

local now = clock(ARGV[1])
local id = ARGV[2]
if get(id) then return {'absent'} end

local admitted = math.min(tonumber(ARGV[6]), now)
local request = {k = ARGV[3], m = ARGV[4], t = admitted, s = stamps_of(admitted), b = {}}
local amounts, stamps = amounts_at(7), stamps_of(now)
for _, limit in ipairs(limits_at(14, now, stamps)) do
  if limit.bucket then
    fill(limit.bucket, limit.amount, now, of_unit(amounts, limit.unit))
  end
end
each_tally(request, function(of) turned(of, stamps) end)
add(request, amounts, NOTHING)
add_row(request, ARGV[5], amounts, tonumber(ARGV[12]), tonumber(ARGV[13]))
put(id, {x = 1, v = 1})
redis.call('ZADD', EXPIRED, int(now), id)
sweep(now, SWEEP_AT_ONCE)
return {'posted', save(now)}
