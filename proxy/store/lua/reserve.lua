#!lua
-- reserve: takes the worst case of a request from every limit that binds it, or nothing.
--
-- ARGV   1 now ('': the server's time), 2 id, 3 packed, seven doubles: amounts, and nano-usd of the
--        input alone; 4 packed, three doubles: lease in ms, when the key ends (ms), 1: admit whatever
--        the limits say, and then limits; 5 team record, 6 key record (both as the gateway knows
--        them), 7 key id, 8 model, 9 provider, 10... counters: 'clock', the tallies of the request,
--        and what else its limits are of
-- Returns {'ok'|'observed'|'refused', now, writing, used, reserved, amount, used, ...}: a triple
--        per limit, before this request; observed is one that was let in whatever they say.
--        {'stale', team record, key record} where the gateway knows old ones;
--        {'expired'} for a key past its end; {'gone'} for an id whose lease ran out, or that
--        was settled or given back before it came.

-- include: layout
local id, terms, key, model, provider = ARGV[2], ARGV[4], ARGV[7], ARGV[8], ARGV[9]
local records = redis.call('HMGET', RECORDS, 'team', 'key:' .. key)
if records[1] ~= ARGV[5] or records[2] ~= ARGV[6] then
  return {'stale', records[1] or '', records[2] or ''}
end
local counters = redis.call('HMGET', COUNTERS, unpack(ARGV, 10))
-- include: clock
local lease, key_ends, force = struct.unpack('<ddd', terms)
if now >= key_ends then return {'expired'} end

if now >= due then
  -- include: sweeping
  sweep(SWEEP_AT_ONCE)
  counters = redis.call('HMGET', COUNTERS, unpack(ARGV, 10))
end
-- include: buckets
-- include: limits
local requests, input, output, images, usd, tokens, sent = struct.unpack('<ddddddd', ARGV[3])
local asked, reply = {requests, input, output, images, usd, tokens}, {'ok', now, writings}
local fits, buckets = measure(terms, 25, asked, reply)
if not fits then reply[1] = force == 1 and 'observed' or 'refused' end

-- Its worker may be gone before it tells anything, and the upstream has likely been asked.
local reservation = struct.pack(RESERVATION, now, fits and 0 or 1, requests, input, output, images,
  usd, tokens, requests, input, 0, images, sent, input, writings, #key, key, #model, model, #provider,
  provider)
for i = 1, #buckets, 4 do
  local field = ARGV[9 + buckets[i]]
  reservation = reservation .. struct.pack(IN_BUCKET, buckets[i + 3], #field, field)
end
if reply[1] == 'refused' or redis.call('HSETNX', RESERVATIONS, id, reservation) == 0 then
  -- include: reservations
  local before, packed = get(id)
  if before and before[STATE] < 2 then
    -- The same id again: the answer to the first call was lost on its way.
    reply[1] = before[STATE] == 1 and 'observed' or 'ok'
  elseif packed then
    reply = {'gone'}
  end
  redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today))
  return reply
end

-- include: tallies
local words = {}
for i = 1, #buckets, 4 do
  local place, amount, more = buckets[i], buckets[i + 1], buckets[i + 2]
  -- One that is only observed leaves no debt.
  local full = fill(counters[place], amount, more, not fits and amount or nil)
  words[#words + 1], words[#words + 2] = ARGV[9 + place], full
end
local nothing = {0, 0, 0, 0, 0, 0}
due = math.min(due, now + lease)
redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today),
  ARGV[11], add(ARGV[11], counters[2], writings, hour, 1, nothing, asked),
  ARGV[12], add(ARGV[12], counters[3], writings, hour, 1, nothing, asked),
  ARGV[13], add(ARGV[13], counters[4], writings, hour, 1, nothing, asked),
  ARGV[14], add(ARGV[14], counters[5], writings, hour, 1, nothing, asked),
  unpack(words))
redis.call('ZADD', LEASES, now + lease, id)
return reply
