-- The numbers of a reservation, each by its place.
local ADMITTED, STATE, ASKED, COUNTED, WROTE = 1, 2, 2, 8, 15
local KEY, MODEL, PROVIDER, BUCKETS = 16, 17, 18, 19

-- A reservation, and as it is packed: nil where there is none, '' where it may not come.
local function get(id)
  local packed = redis.call('HGET', RESERVATIONS, id)
  if not packed or packed == '' then return nil, packed end
  return {struct.unpack(RESERVATION, packed)}, packed
end

-- The counters of a reservation: the clock, its tallies, its buckets. Of none, the clock.
local function fields_of(reservation, packed)
  if not reservation then return {'clock'} end
  local model, key = reservation[MODEL], 'key:' .. reservation[KEY] .. '|'
  local fields = {'clock', 'team|*', 'team|' .. model, key .. '*', key .. model}
  local at, _ = reservation[BUCKETS]
  while at <= #packed do
    _, fields[#fields + 1], at = struct.unpack(IN_BUCKET, packed, at)
  end
  return fields
end
