-- What limits have used.
--
-- A limit is packed as eight doubles: kind (0 minute, 1 hour, 2 day, 3 month, 4 total, 5 concurrent);
--   the places of its tally or bucket and of its past among the `counters` read; which amount it
--   counts; how much of it; a grant, from when on it adds to that, and until when.

-- Puts a triple per limit into a reply: used, reserved, amount. Returns whether all have room for
-- what is asked, and of each bucket four: place, amount, what is asked of it, which amount that is.
local function measure(limits, from, asked, reply)
  local fits, buckets, n = true, {}, #reply
  for at = from, #limits, 64 do
    local kind, place, past, part, amount, grant, begins, ends =
      struct.unpack('<dddddddd', limits, at)
    local counter, used, reserved, more = counters[place], 0, 0, asked[part]
    if begins <= now and now < ends then amount = amount + grant end
    if kind == 0 then
      -- Rounded here, so that the figures told explain the verdict. The last digits are noise.
      used = math.ceil(level(counter, amount) - 1e-6)
      local m = #buckets
      buckets[m + 1], buckets[m + 2], buckets[m + 3], buckets[m + 4] = place, amount, more, part
    elseif kind == 5 then
      more = 1
      if counter then reserved = struct.unpack('<d', counter, 9) end
    elseif counter then
      local of = struct.unpack('<d', counter)
      local runs = of == hour
      if not runs then
        -- include: calendar
        runs = together(kind, of, hour)
      end
      if runs then
        used, reserved = struct.unpack('<dd', counter, 16 * part + 1)
        if past > 0 and counters[past] then
          -- One double, then thirteen a window: one, and two of each amount.
          local from = 104 * (kind - 2) + 16 * (part - 1) + 17
          local posted, held = struct.unpack('<dd', counters[past], from)
          used, reserved = used + posted, reserved + held
        end
      end
    end
    -- What asks for nothing needs no room, however full it is: a text where images are spent.
    if more > 0 and used + reserved + more > amount then fits = false end
    reply[n + 1], reply[n + 2], reply[n + 3] = used, reserved, amount
    n = n + 3
  end
  return fits, buckets
end
