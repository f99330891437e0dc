-- KEYS: writers, reservations, epoch, rebuild, boot, swept, left, then of each reservation: slots …, funds …;
--       funds …
-- ARGV: writer, lease_us, rebuild_us if memory may have been lost, how many reservations, how many funds; then
--       of each reservation: number, note, how many slots, funds, and of each fund: amount, end_s; then of each fund:
--       total, end_s
-- Reply: known, now, epoch, the notes of what this writer had and has not any more, then of each fund: spent, used
local writer, rebuild_us = ARGV[1], tonumber(ARGV[3])
local open, funds = tonumber(ARGV[4]), tonumber(ARGV[5])
local writers, reservations, swept = KEYS[1], KEYS[2], KEYS[6]

if redis.call('SETNX', KEYS[5], now) == 1 and rebuild_us > 0 then
  redis.call('SET', KEYS[4], string.format('%.0f', now + rebuild_us), 'PX', math.ceil(rebuild_us / 1000) + 1000)
end

local notes, still = redis.call('LRANGE', KEYS[7], 0, -1), {}
redis.call('DEL', KEYS[7])
local at = 6
for _ = 1, open do
  still[ARGV[at]] = true
  at = at + 4 + 2 * tonumber(ARGV[at + 3])
end
local former = redis.call('HGETALL', reservations)
for i = 1, #former, 2 do
  local note = free(former[i + 1], release)
  if note ~= '' and not still[former[i]] then notes[#notes + 1] = note end
end
redis.call('DEL', reservations)
for _, fund in ipairs(redis.call('SMEMBERS', swept)) do
  local amount = redis.call('HGET', fund, 'x:' .. writer)
  if amount then
    redis.call('HDEL', fund, 'x:' .. writer)
    subtract(fund, 'S', amount)
    subtract(fund, 'U', amount)
  end
end
redis.call('DEL', swept)

local key, arg = 8, 6
for _ = 1, open do
  local number, note, slots, claims = ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])
  local taken_slots, taken_funds, ends = {}, {}, {}
  for i = 1, slots do taken_slots[i] = KEYS[key + i - 1] end
  for i = 1, claims do
    taken_funds[2 * i - 1], taken_funds[2 * i] = KEYS[key + slots + i - 1], ARGV[arg + 2 + 2 * i]
    ends[i] = ARGV[arg + 3 + 2 * i]
  end
  redis.call('HSET', reservations, number, take(taken_slots, taken_funds, ends, note))
  key, arg = key + slots + claims, arg + 4 + 2 * claims
end
if open > 0 then redis.call('EXPIRE', reservations, HOURS_S) end
redis.call('ZADD', writers, now + tonumber(ARGV[2]), writer)
redis.call('EXPIRE', writers, HOURS_S)
return take_over({1, now, redis.call('GET', KEYS[3]) or '0', notes}, writer, key, arg, funds)
