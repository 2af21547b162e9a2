-- How full a bucket is, and its amount. One whose limit was changed is no more than full; one
-- of a clock that was far ahead is empty.
local function level(bucket, amount)
  if not bucket then return 0, amount end
  local since, old, last = struct.unpack(BUCKET, bucket)
  amount = amount or last
  if amount ~= last then old = math.min(old, amount) end
  return math.max(0, old - math.abs(now - since) * amount / MINUTE), amount
end

-- A bucket, packed, with more in it. `most`: as full as it may become.
local function fill(bucket, amount, more, most)
  local old, rate = level(bucket, amount)
  return struct.pack(BUCKET, now, math.min(math.max(0, old + more), most or math.huge), rate)
end
