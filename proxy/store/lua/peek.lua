#!lua flags=allow-oom
-- peek: what limits have used and hold reserved, for GET /v1/usage and the metrics.
--
-- ARGV   1 now ('': the server's time), 2 limits, 3... the counters that they are of: first 'clock'
-- Returns {now, writing, used, reserved, amount, used, ...}, a triple per limit.

-- include: layout
local counters = redis.call('HMGET', COUNTERS, 'clock')
-- include: clock
-- include: sweeping
-- Whatever the clock says is due, since this is no request that waits; and more at once than there:
-- a worker that was killed may have held many.
sweep(500)
counters = redis.call('HMGET', COUNTERS, unpack(ARGV, 3))
-- include: limits
local reply = {now, writings}
measure(ARGV[2], 1, {0, 0, 0, 0, 0, 0}, reply)
redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today))
return reply
