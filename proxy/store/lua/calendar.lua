-- calendar.lua: days and windows; the loader puts it before common.lua.

local MINUTE, HOUR, DAY = 60000, 3600000, 86400000

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

local function day_of(time)
  return string.format('%04d-%02d-%02d', date(math.floor(time / DAY)))
end

local function stamps_of(time)
  local year, month = date(math.floor(time / DAY))
  return {math.floor(time / HOUR), math.floor(time / DAY), year * 12 + month, 0}
end
