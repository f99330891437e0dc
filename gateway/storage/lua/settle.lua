-- KEYS: writers, reservations, epoch, the rates of all corrections …, funds …
-- ARGV: writer, how many ended, how many corrections in all, how many funds; then of each ended: number, how
--       many corrections, and of each of them: limit, units; then of each fund: total, end_s
-- Reply: known, now, epoch, then of each fund: spent, used
local writer, ended = ARGV[1], tonumber(ARGV[2])
local corrections, funds = tonumber(ARGV[3]), tonumber(ARGV[4])
local arg, rate_key = 5, 4

local function correct(count)
  for i = 0, count - 1 do
    local rate = KEYS[rate_key + i]
    local limit, units = tonumber(ARGV[arg + 2 * i]), tonumber(ARGV[arg + 2 * i + 1])
    set_rate(rate, moved(tonumber(redis.call('GET', rate) or 0), limit, units))
  end
end

for _ = 1, ended do
  local number, count = ARGV[arg], tonumber(ARGV[arg + 1])
  local reservation = redis.call('HGET', KEYS[2], number)
  arg = arg + 2
  if reservation then
    redis.call('HDEL', KEYS[2], number)
    free(reservation, release)
    correct(count)
  end
  rate_key, arg = rate_key + count, arg + 2 * count
end
local reply = {known(KEYS[1], writer) and 1 or 0, now, redis.call('GET', KEYS[3]) or '0'}
return take_over(reply, writer, 4 + corrections, arg, funds)
