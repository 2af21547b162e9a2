-- common.lua: what every script of the ledger shares; the loader puts it before each, and
--   calendar.lua before it.
--
-- KEYS, the same six for every script, all of one team and so of one slot:
--   1 records       hash  'team' -> record, 'key:<id>' -> record (JSON, never read here)
--   2 counters      hash  '<scope>|<model>' -> a tally, '<scope>|<unit>|minute|<model>' -> a bucket
--   3 reservations  hash  id -> msgpack, live and expired
--   4 leases        zset  id of a live reservation -> end of its lease
--   5 expired       zset  id of an expired one -> when it expired
--   6 rows          hash  '<day>|<key>|<model>|<provider>' -> seven integers
--
-- Amounts are five integers: requests, input, output, images, nano-usd. Times are ms.
-- Tally: what a scope ('team', 'key:<id>') used of a model ('*': of all) in the hour, day and
--   month of now and in all: [1] live reservations, then per window a stamp that names it,
--   5 amounts posted, 5 reserved; kept for every window whether or not a limit asks for it, so
--   that a new limit knows what went before. In team|* also [46] the latest time seen, [47] until
--   when no lease runs out, [48] how many scripts have written: a store that went backwards has
--   a smaller one.
-- Bucket: '<ms> <level> <amount>'; the level leaks at amount a minute. A reservation fills it with
--   its worst case; what it did not use comes out again in so far as it cannot have leaked yet:
--   else the refund of a long request would take back what others have used since.
-- Reservation: k key, m model, p provider, t admission, s its windows' stamps, a amounts,
--   b buckets that it is in, c what a lost lease is charged, o set where only force let it in;
--   x is set once it has expired. One with v is over, or was charged without having been
--   reserved: it may not come.

local RECORDS, COUNTERS, RESERVATIONS, LEASES, EXPIRED, ROWS =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local KEEP_EXPIRED = 7 * DAY
local KEEP_VOID = 10 * MINUTE
local SILENCE = 15000
local SPARE = 15000
local SWEEP_AT_ONCE = 20
local MOST_WORDS = 1000
local WINDOWS = {hour = 1, day = 2, month = 3, total = 4}
local WIDTH, CLOCK, SPARED, SEQUENCE = 11, 46, 47, 48
local NOTHING = {0, 0, 0, 0, 0}
local PARTS = {
  ['requests'] = {1},
  ['tokens'] = {2, 3},
  ['input tokens'] = {2},
  ['output tokens'] = {3},
  ['images'] = {4},
  ['usd'] = {5},
}

-- Integers as text: exact below 2^53, and never '-0'.
local function int(number)
  return string.format('%d', number)
end

-- Counters, each read once a script, and written by `save`: as they are stored, and tallies.
local stored, filled, cache = {}, {}, {}

-- Reads in one go what a request of this key will need; the rest is read as it is.
local function read_tallies(key_id, model)
  local key = 'key:' .. key_id .. '|'
  local fields = {'team|*', 'team|' .. model, key .. '*', key .. model}
  local values = redis.call('HMGET', COUNTERS, unpack(fields))
  for i = 1, 4 do stored[fields[i]] = values[i] end
end

local function counter(field)
  if stored[field] == nil then stored[field] = redis.call('HGET', COUNTERS, field) end
  return stored[field]
end

local function tally(scope, model)
  local field = scope .. '|' .. model
  if not cache[field] then
    local packed = counter(field)
    local new = packed and cmsgpack.unpack(packed) or {}
    for i = #new + 1, SEQUENCE do new[i] = 0 end
    cache[field] = new
  end
  return cache[field]
end

-- The time, which for a team does not run backwards over a window's turn: a failover may
-- bring a clock that is a little behind. More than an hour is no skew: the server is right.
local function clock(given)
  local now = tonumber(given)
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local team = tally('team', '*')
  local seen = team[CLOCK]
  if seen > now and seen - now < HOUR then return seen end
  -- Gateways look at every team more often than this. Where none did, the store may have been
  -- out of reach, and leases have run out that nobody could renew: now they can be.
  if seen > 0 and now - seen > SILENCE then team[SPARED] = now + SPARE end
  return now
end

-- Starts the windows that have turned.
local function turned(of, stamps)
  for window = 1, 4 do
    local base = 2 + (window - 1) * WIDTH
    if of[base] ~= stamps[window] then
      of[base] = stamps[window]
      for i = base + 1, base + 10 do of[i] = 0 end
    end
  end
  return of
end

-- Writes the counters; returns the number of this writing.
local function save(now)
  local team, words = tally('team', '*'), {}
  team[CLOCK] = now
  team[SEQUENCE] = team[SEQUENCE] + 1
  for field, value in pairs(cache) do filled[field] = cmsgpack.pack(value) end
  for field, value in pairs(filled) do
    words[#words + 1], words[#words + 2] = field, value
    if #words == MOST_WORDS then
      redis.call('HSET', COUNTERS, unpack(words))
      words = {}
    end
  end
  if #words > 0 then redis.call('HSET', COUNTERS, unpack(words)) end
  return team[SEQUENCE]
end

local function each_tally(reservation, act)
  for _, scope in ipairs({'team', 'key:' .. reservation.k}) do
    act(tally(scope, '*'))
    act(tally(scope, reservation.m))
  end
end

-- Adds to what is posted and reserved, in the windows of the admission that still run.
local function add(reservation, posted, reserved)
  local at, more = {}, {}
  for i = 1, 5 do
    if posted[i] ~= 0 then at[#at + 1], more[#more + 1] = i, posted[i] end
    if reserved[i] ~= 0 then at[#at + 1], more[#more + 1] = 5 + i, reserved[i] end
  end
  each_tally(reservation, function(of)
    for window = 1, 4 do
      local base = 2 + (window - 1) * WIDTH
      if of[base] == reservation.s[window] then
        for n = 1, #at do
          local i = base + at[n]
          of[i] = of[i] + more[n]
        end
      end
    end
  end)
end

local function of_unit(amounts, unit, first)
  local sum = 0
  for _, part in ipairs(PARTS[unit]) do sum = sum + amounts[(first or 0) + part] end
  return sum
end

-- How full a bucket is, and its amount. One whose limit was changed is no more than full; one
-- of a clock that was far ahead is empty.
local function level(field, amount, now)
  local value = counter(field)
  if not value then return 0, amount end
  local since, old, last = string.match(value, '^(%S+) (%S+) (%S+)$')
  since, old, last = tonumber(since), tonumber(old), tonumber(last)
  amount = amount or last
  if amount ~= last then old = math.min(old, amount) end
  return math.max(0, old - math.abs(now - since) * amount / MINUTE), amount
end

-- `most`: as full as it may become.
local function fill(field, amount, now, more, most)
  local old, rate = level(field, amount, now)
  if not rate then return end
  local new = math.min(math.max(0, old + more), most or math.huge)
  stored[field] = string.format('%d %.17g %d', now, new, rate)
  filled[field] = stored[field]
end

-- From what a reservation has put into its buckets to what it comes to.
local function refill(reservation, now, before, after)
  for _, field in ipairs(reservation.b) do
    local unit = string.match(field, '^[^|]*|([^|]*)')
    local was = of_unit(before, unit)
    local more = of_unit(after, unit) - was
    local _, rate = level(field, nil, now)
    if more < 0 and rate then
      more = -math.min(-more, math.max(0, was - (now - reservation.t) * rate / MINUTE))
    end
    fill(field, nil, now, more)
  end
end

-- Row: requests, input, output, cached, image tokens, images, nano-usd. None of nothing.
local function add_row(reservation, provider, amounts, cached, image)
  local field = day_of(reservation.t) .. '|' .. reservation.k .. '|' .. reservation.m .. '|'
    .. provider
  local sums = {amounts[1], amounts[2], amounts[3], cached, image, amounts[4], amounts[5]}
  local value = redis.call('HGET', ROWS, field)
  local i = 0
  for number in string.gmatch(value or '', '%S+') do
    i = i + 1
    sums[i] = sums[i] + tonumber(number)
  end
  local row = string.format('%d %d %d %d %d %d %d', unpack(sums))
  if string.find(row, '[1-9]') then
    redis.call('HSET', ROWS, field, row)
  else
    redis.call('HDEL', ROWS, field)
  end
end

local function get(id)
  local packed = redis.call('HGET', RESERVATIONS, id)
  return packed and cmsgpack.unpack(packed)
end

local function put(id, reservation)
  redis.call('HSET', RESERVATIONS, id, cmsgpack.pack(reservation))
end

local function negative(amounts)
  local result = {}
  for i = 1, 5 do result[i] = -amounts[i] end
  return result
end

-- Charges a live reservation and takes it out of every tally and bucket that it is in.
local function post(id, reservation, now, provider, amounts, cached, image)
  add(reservation, amounts, negative(reservation.a))
  each_tally(reservation, function(of) of[1] = of[1] - 1 end)
  refill(reservation, now, reservation.a, amounts)
  add_row(reservation, provider, amounts, cached, image)
  redis.call('ZREM', LEASES, id)
end

-- Frees leases that have run out: the last count is charged, the rest is free again.
local function sweep(now, most)
  local spared = tally('team', '*')[SPARED] - now
  local ids = {}
  if spared <= 0 or spared > SPARE then
    ids = redis.call('ZRANGEBYSCORE', LEASES, '-inf', int(now), 'LIMIT', 0, most)
  end
  for _, id in ipairs(ids) do
    local reservation = get(id)
    post(id, reservation, now, reservation.p, reservation.c, 0, 0)
    reservation.x = 1
    put(id, reservation)
    redis.call('ZADD', EXPIRED, int(now), id)
  end
  local old = redis.call('ZRANGEBYSCORE', EXPIRED, '-inf', int(now - KEEP_EXPIRED), 'LIMIT', 0, most)
  for _, id in ipairs(old) do
    redis.call('HDEL', RESERVATIONS, id)
    redis.call('ZREM', EXPIRED, id)
  end
  return #ids
end

local function amounts_at(first)
  local amounts = {}
  for i = 0, 4 do amounts[i + 1] = tonumber(ARGV[first + i]) end
  return amounts
end

-- Limits as arguments, seven each: scope, unit, window, model, amount, grant, and the stamp of
-- the window that the grant is for. Each becomes what it has used and reserved of how much.
local function limits_at(first, now, stamps)
  local limits = {}
  for i = first, #ARGV, 7 do
    local scope, unit, window, model = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local limit = {unit = unit, used = 0, reserved = 0, amount = tonumber(ARGV[i + 4])}
    local number = WINDOWS[window]
    if window == 'minute' then
      limit.bucket = table.concat({scope, unit, window, model}, '|')
      -- Rounded here, so that the figures told explain the verdict. The last digits are noise.
      limit.used = math.ceil(level(limit.bucket, limit.amount, now) - 1e-6)
    elseif unit == 'concurrent' then
      limit.reserved = tally(scope, model)[1]
    else
      local of = turned(tally(scope, model), stamps)
      local base = 2 + (number - 1) * WIDTH
      limit.used = of_unit(of, unit, base)
      limit.reserved = of_unit(of, unit, base + 5)
    end
    if number and tonumber(ARGV[i + 6]) == stamps[number] then
      limit.amount = limit.amount + tonumber(ARGV[i + 5])
    end
    limits[#limits + 1] = limit
  end
  return limits
end

local function report(reply, limits)
  for _, limit in ipairs(limits) do
    reply[#reply + 1] = limit.used
    reply[#reply + 1] = limit.reserved
    reply[#reply + 1] = limit.amount
  end
  return reply
end
