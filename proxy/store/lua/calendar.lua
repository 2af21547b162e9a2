-- Civil date of a day number (days since 1970-01-01), proleptic Gregorian.
local function date(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - math.floor((153 * mp + 2) / 5) + 1
end

local function day_text(day)
  return string.format('%04d-%02d-%02d', date(day))
end

-- Whether two hours (since 1970) are in one window: 1 hour, 2 day, 3 month, 4 total.
local function together(window, one, other)
  if window == 4 or one == other then return true end
  one, other = math.floor(one / 24), math.floor(other / 24)
  if window ~= 3 or one == other then return window > 1 and one == other end
  local year, month = date(one)
  local its_year, its_month = date(other)
  return month == its_month and year == its_year
end
