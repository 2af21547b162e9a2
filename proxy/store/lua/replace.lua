#!lua
-- replace: changes a team's or a key's record if it is still the one that was read.
--
-- ARGV   1 field ('team' or 'key:<id>'), 2 record as it was read ('': there is none),
--        3 new record
-- Returns 1 where it was replaced, 0 where somebody else was faster.

local current = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if current ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
