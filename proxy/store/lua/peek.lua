#!lua flags=allow-oom
-- peek: what limits have used and hold reserved, for GET /v1/usage and the metrics.
--
-- ARGV   1 now ('': the server's time), 2... limits
-- Returns {now, writing, used, reserved, amount, used, ...}, a triple per limit.

local now = clock(ARGV[1])
-- More at once than where a request waits: a worker that was killed may have held many.
sweep(now, 500)
local limits = limits_at(2, now, stamps_of(now))
return report({now, save(now)}, limits)
