-- KEYS: writers, reservations, epoch, rebuild, rates …, slots …, funds …
-- ARGV: writer, number, lease_us, note, how many rates, slots, funds; then of each rate: limit, cost;
--       of each slot: limit; of each fund: amount, room (may be negative), start_s, end_s
-- Reply: decision (its place in interface.Decision), now, epoch, index, wait, then of each rate: remaining,
--        reset; of each fund: spent, used
local ADMITTED, RATE, SLOT, SPENT, RESERVED, PERIOD, REGISTER, WAIT = 0, 1, 2, 3, 4, 5, 6, 7
local writers, reservations, writer, number = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local rates, slots, funds = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local values = redis.call('MGET', unpack(KEYS, 3, 4 + rates + slots))
local epoch, rebuild = values[1] or '0', tonumber(values[2] or 0)
local slot_arg = 7 + 2 * rates
local fund_key, fund_arg = 4 + rates + slots, slot_arg + slots

local function bare(decision, index, wait)
  return {decision, now, epoch, index, wait}
end

local tats, charged = {}, {}
for i = 1, rates do tats[KEYS[4 + i]] = tonumber(values[2 + i] or 0) end

local function verdict(decision, index, wait)
  local reply = bare(decision, index, wait)
  for i = 1, rates do
    local limit, debt = tonumber(ARGV[6 + 2 * i]), tats[KEYS[4 + i]] - now_tat
    local remaining, reset = limit, 0
    if limit <= 0 then
      remaining = 0
    elseif debt > SLACK then
      local room = MINUTE + FIT - debt
      remaining = room > 0 and math.min(limit, math.floor(room / (MINUTE / limit))) or 0
      reset = math.ceil(debt - SLACK)
    end
    reply[#reply + 1], reply[#reply + 2] = remaining, reset
  end
  for i = 1, funds do push_fund(reply, KEYS[fund_key + i]) end
  return reply
end

if rates + slots + funds == 0 then return bare(ADMITTED, 0, 0) end
if known(writers, writer) then
  redis.call('ZADD', writers, now + tonumber(ARGV[3]), writer)
elseif slots + funds > 0 then
  return bare(REGISTER, 0, 0)
end
if redis.call('HEXISTS', reservations, number) == 1 then return verdict(ADMITTED, 0, 0) end
if funds > 0 and now < rebuild then return bare(WAIT, 0, rebuild - now) end
for i = 1, funds do
  local start_s, end_s = tonumber(ARGV[fund_arg + 4 * i - 1]), tonumber(ARGV[fund_arg + 4 * i])
  if second < start_s or (end_s ~= 0 and second >= end_s) then return bare(PERIOD, i - 1, 0) end
end

local worst, refused = 0, -1
for i = 1, rates do
  local rate, limit, cost = KEYS[4 + i], tonumber(ARGV[6 + 2 * i]), tonumber(ARGV[7 + 2 * i])
  local tat, excess = charged[rate] or tats[rate], 0
  if cost > limit then
    excess = math.huge
  elseif cost > 0 then
    excess = math.max(tat - now_tat, 0) + cost * (MINUTE / limit) - MINUTE
  end
  if excess > FIT and excess > worst then worst, refused = excess, i - 1 end
  charged[rate] = moved(tat, limit, cost)
end
if refused >= 0 then return verdict(RATE, refused, worst == math.huge and 0 or math.ceil(worst - FIT)) end

local held, taken_slots = {}, {}
for i = 1, slots do
  local slot = KEYS[4 + rates + i]
  local count = held[slot] or tonumber(values[2 + rates + i] or 0)
  if count >= tonumber(ARGV[slot_arg + i]) then return verdict(SLOT, i - 1, 0) end
  held[slot], taken_slots[i] = count + 1, slot
end

local taken_funds, ends = {}, {}
for i = 1, funds do
  local fund, arg = KEYS[fund_key + i], fund_arg + 4 * i - 3
  local amount, room = ARGV[arg], ARGV[arg + 1]
  local state = redis.call('HMGET', fund, 'S', 'U')
  if room:sub(1, 1) == '-' or more(state[1] or '0', room) then return verdict(SPENT, i - 1, 0) end
  if more(state[2] or '0', room) then return verdict(RESERVED, i - 1, 0) end
  taken_funds[2 * i - 1], taken_funds[2 * i], ends[i] = fund, amount, ARGV[arg + 3]
end

for rate, tat in pairs(charged) do
  tats[rate] = tat
  set_rate(rate, tat)
end
redis.call('HSET', reservations, number, take(taken_slots, taken_funds, ends, ARGV[4]))
redis.call('EXPIRE', reservations, HOURS_S)
return verdict(ADMITTED, 0, 0)
