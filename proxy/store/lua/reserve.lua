#!lua
-- reserve: takes the worst case of a request from every limit that binds it, or nothing.
--
-- ARGV   1 now ('': the server's time), 2 id, 3-7 amounts, 8 nano-usd of the input alone,
--        9 lease in ms, 10 key id, 11 model, 12 provider, 13 team record, 14 key record (both as
--        the gateway knows them), 15 key's end ('' never), 16 '1': admit whatever the limits say,
--        17... limits
-- Returns {'ok'|'observed'|'refused', now, writing, used, reserved, amount, used, ...}: a triple
--        per limit, before this request; observed is one that only ARGV 16 let in.
--        {'stale', team record, key record} where the gateway knows old ones;
--        {'expired'} for a key past its end; {'gone'} for an id whose lease ran out, or that
--        was settled or given back before it came.

local id, key_id, model = ARGV[2], ARGV[10], ARGV[11]
read_tallies(key_id, model)
local now = clock(ARGV[1])
local records = redis.call('HMGET', RECORDS, 'team', 'key:' .. key_id)
if records[1] ~= ARGV[13] or records[2] ~= ARGV[14] then
  return {'stale', records[1] or '', records[2] or ''}
end
if ARGV[15] ~= '' and now >= tonumber(ARGV[15]) then return {'expired'} end

sweep(now, SWEEP_AT_ONCE)
local stamps = stamps_of(now)
local asked, limits = amounts_at(3), limits_at(17, now, stamps)
local before = get(id)
if before then
  -- The same id again: the answer to the first call was lost on its way.
  local writing = save(now)
  return before.x and {'gone'} or report({before.o and 'observed' or 'ok', now, writing}, limits)
end

local fits = true
for _, limit in ipairs(limits) do
  limit.asked = limit.unit == 'concurrent' and 1 or of_unit(asked, limit.unit)
  -- What asks for nothing needs no room, however full it is: a text where images are spent.
  if limit.asked > 0 and limit.used + limit.reserved + limit.asked > limit.amount then
    fits = false
  end
end
if not fits and ARGV[16] ~= '1' then
  return report({'refused', now, save(now)}, limits)
end

local reservation = {k = key_id, m = model, p = ARGV[12], t = now, s = stamps, a = asked, b = {},
  -- Its worker may be gone before it tells anything, and the upstream has likely been asked.
  c = {asked[1], asked[2], 0, asked[4], tonumber(ARGV[8])}, o = not fits or nil}
each_tally(reservation, function(of) turned(of, stamps)[1] = of[1] + 1 end)
add(reservation, NOTHING, asked)
for _, limit in ipairs(limits) do
  if limit.bucket then
    -- One that is only observed leaves no debt.
    fill(limit.bucket, limit.amount, now, limit.asked, not fits and limit.amount or nil)
    reservation.b[#reservation.b + 1] = limit.bucket
  end
end
put(id, reservation)
redis.call('ZADD', LEASES, int(now + tonumber(ARGV[9])), id)
return report({fits and 'ok' or 'observed', now, save(now)}, limits)
