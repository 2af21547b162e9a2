-- The time, by ARGV 1 ('': the server's) and the clock, first of the `counters` read. For a team it
-- does not run backwards over a window's turn: a failover may bring a clock that is a little behind.
-- An hour is no skew: the server is right.

local SILENCE, SPARE = 15000, 15000
local seen, spared, writings, jumped, due, today = 0, 0, 0, 0, 0, '1970-01-01'
if counters[1] then seen, spared, writings, jumped, due, today = struct.unpack(CLOCK, counters[1]) end
writings = writings + 1
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
if seen - now >= HOUR then
  jumped = writings
elseif seen > now then
  now = seen
elseif seen > 0 and now - seen > SILENCE then
  -- Gateways look at every team more often than this. Where none did, the store may have been
  -- out of reach, and leases have run out that nobody could renew: now they can be.
  spared = now + SPARE
end
local hour = math.floor(now / HOUR)
if math.floor(now / DAY) ~= math.floor(seen / DAY) then
  -- include: calendar
  today = day_text(math.floor(now / DAY))
end
