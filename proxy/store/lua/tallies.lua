-- Adds twelve sums to the past of hour `of`: to those of its windows that hour `at` is in, and that have
-- not begun anew since writing `wrote`. Not where they are of the hour itself: returns true. `turned`:
-- that hour has just begun, and with it the other windows.
local function into_past(field, of, at, wrote, sums, turned)
  -- include: calendar
  local doubles = '<' .. string.rep('d', 40)
  local packed = redis.call('HGET', COUNTERS, 'past|' .. field) or string.rep('\0', 320)
  local past = {struct.unpack(doubles, packed)}
  if at == of and past[1] <= wrote then return true end
  for window = 2, 4 do
    local since = 13 * (window - 2) + 2
    if past[since] <= wrote and together(window, at, of) then
      for i = 1, 12 do past[since + i] = past[since + i] + sums[i] end
    elseif turned then
      past[since] = writings
      for i = 1, 12 do past[since + i] = 0 end
    end
  end
  if turned then past[1] = writings end
  redis.call('HSET', COUNTERS, 'past|' .. field, struct.pack(doubles, unpack(past)))
end

-- A tally, packed, with more live, and more posted and reserved of what writing `wrote` admitted in hour
-- `at`. Only what is admitted now turns it: where the clock goes back, an hour begins anew that the
-- reserve of what ends is not in.
local function add(field, tally, wrote, at, live, p, r)
  local of, n, a, A, b, B, c, C, d, D, e, E, f, F =
    struct.unpack(TALLY, tally or string.rep('\0', 112))
  if wrote == writings and of ~= hour then
    into_past(field, hour, of, wrote, {a, A, b, B, c, C, d, D, e, E, f, F}, true)
    of, a, A, b, B, c, C, d, D, e, E, f, F = hour, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
  end
  if (at ~= of or wrote < jumped) and not into_past(field, of, at, wrote,
    {p[1], r[1], p[2], r[2], p[3], r[3], p[4], r[4], p[5], r[5], p[6], r[6]}, false) then
    return struct.pack(TALLY, of, n + live, a, A, b, B, c, C, d, D, e, E, f, F)
  end
  return struct.pack(TALLY, of, n + live, a + p[1], A + r[1], b + p[2], B + r[2],
    c + p[3], C + r[3], d + p[4], D + r[4], e + p[5], E + r[5], f + p[6], F + r[6])
end
