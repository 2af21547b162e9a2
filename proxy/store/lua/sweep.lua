#!lua flags=allow-oom
-- sweep: frees leases that have run out.
--
-- ARGV   1 now ('': the server's time), 2 how many at the most
-- Returns how many it freed.

local now = clock(ARGV[1])
local freed = sweep(now, tonumber(ARGV[2]))
save(now)
return freed
