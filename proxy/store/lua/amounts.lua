-- Amounts from five arguments.
local function amounts_at(i)
  local input, output = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  return {tonumber(ARGV[i]), input, output, tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]),
    input + output}
end
