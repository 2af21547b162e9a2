-- Charges a reservation in all that it is in. What a live one held is free again; of one that has
-- expired, what it was charged is.
local function charge(reservation, packed, fields, counters, amounts)
  local live, before, posted, reserved = -1, ASKED, amounts, {0, 0, 0, 0, 0, 0}
  if reservation[STATE] == 2 then
    live, before, posted = 0, COUNTED, {}
    for i = 1, 6 do posted[i] = amounts[i] - reservation[COUNTED + i] end
  else
    for i = 1, 6 do reserved[i] = -reservation[ASKED + i] end
  end
  local admitted, words = reservation[ADMITTED], {}
  local place, part, _ = reservation[BUCKETS]
  for i = 6, #fields do
    part, _, place = struct.unpack(IN_BUCKET, packed, place)
    if counters[i] then
      local was = reservation[before + part]
      local more, _, rate = amounts[part] - was, level(counters[i])
      if more < 0 then
        more = -math.min(-more, math.max(0, was - (now - admitted) * rate / MINUTE))
      end
      words[#words + 1], words[#words + 2] = fields[i], fill(counters[i], nil, more)
    end
  end
  local at, wrote = math.floor(admitted / HOUR), reservation[WROTE]
  redis.call('HSET', COUNTERS, 'clock', struct.pack(CLOCK, now, spared, writings, jumped, due, today),
    fields[2], add(fields[2], counters[2], wrote, at, live, posted, reserved),
    fields[3], add(fields[3], counters[3], wrote, at, live, posted, reserved),
    fields[4], add(fields[4], counters[4], wrote, at, live, posted, reserved),
    fields[5], add(fields[5], counters[5], wrote, at, live, posted, reserved),
    unpack(words))
end
