-- Row: requests, input, output, cached, image tokens, images, nano-usd. None of nothing.
local function add_row(reservation, provider, amounts, cached, image)
  local day, text = math.floor(reservation[ADMITTED] / DAY), today
  if day ~= math.floor(now / DAY) then
    -- include: calendar
    text = day_text(day)
  end
  local field = text .. '|' .. reservation[KEY] .. '|' .. reservation[MODEL] .. '|' .. provider
  local a, b, c, d, e, f, g = string.match(redis.call('HGET', ROWS, field) or '0 0 0 0 0 0 0',
    '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  local row = string.format('%d %d %d %d %d %d %d', a + amounts[1], b + amounts[2],
    c + amounts[3], d + cached, e + image, f + amounts[4], g + amounts[5])
  if row == '0 0 0 0 0 0 0' then
    redis.call('HDEL', ROWS, field)
  else
    redis.call('HSET', ROWS, field, row)
  end
end
