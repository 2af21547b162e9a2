-- Adds twelve sums of hour `at` to those windows of the past of hour `of` that it is in. `turned`: that
-- hour has just begun, and the other windows with it.
local function into_past(field, of, at, sums, turned)
  -- include: calendar
  local doubles = '<' .. string.rep('d', 36)
  local packed = redis.call('HGET', COUNTERS, 'past|' .. field) or string.rep('\0', 288)
  local past = {struct.unpack(doubles, packed)}
  for i = 1, 36 do
    if together(2 + math.floor((i - 1) / 12), at, of) then
      past[i] = past[i] + sums[(i - 1) % 12 + 1]
    elseif turned then
      past[i] = 0
    end
  end
  redis.call('HSET', COUNTERS, 'past|' .. field, struct.pack(doubles, unpack(past)))
end

-- A tally, packed, with more live, and more posted and reserved of what was admitted in hour `at`.
-- `turns`: it becomes one of this hour. What ends does not turn it: where the clock went back, its
-- reserve is not in the hour that would begin anew.
local function add(field, tally, turns, at, live, p, r)
  local of, n, a, A, b, B, c, C, d, D, e, E, f, F =
    struct.unpack(TALLY, tally or string.rep('\0', 112))
  if turns and of ~= hour then
    into_past(field, hour, of, {a, A, b, B, c, C, d, D, e, E, f, F}, true)
    of, a, A, b, B, c, C, d, D, e, E, f, F = hour, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
  end
  if at ~= of then
    into_past(field, of, at,
      {p[1], r[1], p[2], r[2], p[3], r[3], p[4], r[4], p[5], r[5], p[6], r[6]}, false)
    return struct.pack(TALLY, of, n + live, a, A, b, B, c, C, d, D, e, E, f, F)
  end
  return struct.pack(TALLY, of, n + live, a + p[1], A + r[1], b + p[2], B + r[2],
    c + p[3], C + r[3], d + p[4], D + r[4], e + p[5], E + r[5], f + p[6], F + r[6])
end
