-- What the scripts of the ledger keep, and where. A part stands in a script where it is included, and
-- only there is it run: each run of a script makes all functions on its way anew.
--
-- KEYS, the same six for every script, all of one team and so of one slot:
--   1 records       hash  'team' -> record, 'key:<id>' -> record (JSON, never read here)
--   2 counters      hash  'clock', '<scope>|<model>' -> tally, 'past|<scope>|<model>' -> past,
--                         '<scope>|<unit>|minute|<model>' -> bucket
--   3 reservations  hash  id -> reservation, live and expired
--   4 leases        zset  id of a live reservation -> end of its lease
--   5 expired       zset  id of an expired one -> when it expired
--   6 rows          hash  '<day>|<key>|<model>|<provider>' -> seven integers
--
-- Amounts are six integers: requests, input, output, images, nano-usd, and input and output
--   together. Times are ms. Numbers are packed as doubles: exact below 2^53, as all are in Lua.
-- Tally: what a scope ('team', 'key:<id>') used of a model ('*': of all) in an hour: the hour
--   (since 1970), reservations that live (of whichever hour), and of each amount what is posted
--   and what is reserved. Past: which writing began that hour; then of the day, of the month and of
--   all time around it which began that, and the same twelve without the hour. So what a request
--   takes stands in one place, and goes into the past when the hour has turned. Kept for every
--   window whether or not a limit asks for it, so that a new limit knows what went before.
-- Clock: the latest time seen, until when no lease runs out, how many scripts have written (a store
--   that went backwards has a smaller one), which of them last saw the time go back by hours, before when
--   nothing is to be swept, the date.
-- Bucket: ms, level, amount; the level leaks at amount a minute. A reservation fills it with
--   its worst case; what it did not use comes out again in so far as it cannot have leaked yet:
--   else the refund of a long request would take back what others have used since.
-- Reservation: admission, state (0 live, 1 only force let it in, 2 expired), its amounts, what a lost
--   lease is charged, the writing that made it (a window that began later does not hold it); key,
--   model and provider; of each bucket that it is in the amount that it counts and its field. An
--   empty one is over, or was charged without having been reserved: it may not come.

local RECORDS, COUNTERS, RESERVATIONS, LEASES, EXPIRED, ROWS = unpack(KEYS)
local CLOCK, TALLY, BUCKET = '<dddddc10', '<dddddddddddddd', '<ddd'
local RESERVATION, IN_BUCKET = '<dddddddddddddddHc0Hc0Hc0', '<dHc0'

local MINUTE, HOUR, DAY = 60000, 3600000, 86400000
local KEEP_EXPIRED = 7 * DAY
local KEEP_VOID = 10 * MINUTE
local SWEEP_AT_ONCE = 20
