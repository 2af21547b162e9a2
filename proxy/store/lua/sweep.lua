#!lua flags=allow-oom
-- sweep: frees leases that have run out.
--
-- ARGV   1 now ('': the server's time), 2 how many at the most
-- Returns how many it freed.

-- include: layout
local counters = redis.call('HMGET', COUNTERS, 'clock')
-- include: clock
-- include: sweeping
local freed = sweep(tonumber(ARGV[2]))
redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today))
return freed
