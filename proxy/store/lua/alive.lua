#!lua
-- alive: notes that a worker lives, and counts those that do.
--
-- KEYS   1 workers, zset: id of a worker -> when it was last heard of, in ms
-- ARGV   1 id, 2 after how many ms of silence a worker is dead; 0: this one leaves
-- Returns how many live, this one with them. Not when memory is short: readiness asks by it
-- whether the store takes anything.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local silence = tonumber(ARGV[2])
if silence == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - silence)
end
return redis.call('ZCARD', KEYS[1])
