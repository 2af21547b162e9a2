-- Amounts from five arguments.
local function amounts_at(first)
  local amounts = {}
  for i = 1, 5 do amounts[i] = tonumber(ARGV[first + i - 1]) end
  amounts[6] = amounts[2] + amounts[3]
  return amounts
end
