-- Before every other script. Times are microseconds, ``now`` since the epoch, ``tat`` since 2025.
-- Amounts of money are decimal strings, never negative: Lua's numbers lose digits past 2^53.
local MINUTE, SLACK, FIT, ORIGIN_S = 60000000, 0.5, 2, 1735689600
local HOURS_S, FUND_KEEP_S, SWEPT_KEEP_S = 86400, 40 * 86400, 400 * 86400

local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second * 1000000 + tonumber(clock[2])
local now_tat = (second - ORIGIN_S) * 1000000 + tonumber(clock[2])

local function more(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function add(fund, field, amount)
  if amount ~= '0' then redis.call('HINCRBY', fund, field, amount) end
end

local function subtract(fund, field, amount)
  if amount ~= '0' then redis.call('HINCRBY', fund, field, '-' .. amount) end
end

local function open_fund(fund, end_s)
  if redis.call('HSETNX', fund, 'U', '0') == 0 then return end
  redis.call('HSET', fund, 'S', '0')
  local keep_until = math.max(tonumber(end_s) + FUND_KEEP_S, second + HOURS_S)
  if end_s ~= '0' then redis.call('EXPIREAT', fund, keep_until) end
end

local function push_fund(reply, fund)
  local state = redis.call('HMGET', fund, 'S', 'U')
  reply[#reply + 1] = state[1] or '0'
  reply[#reply + 1] = state[2] or '0'
end

-- GCRA, step for step as in gcra.py.
local function moved(tat, limit, units)
  local start = math.max(tat, now_tat)
  if limit > 0 then return start + units * (MINUTE / limit) end
  return start
end

local function set_rate(rate, tat)
  local debt = tat - now_tat
  if debt > 0 then
    redis.call('SET', rate, string.format('%.17g', tat), 'PX', math.ceil(debt / 1000) + 5000)
  else
    redis.call('DEL', rate)
  end
end

-- A reservation is ``cmsgpack`` of {slots, funds, note}, funds being fund, amount, fund, amount …
local function take(slots, funds, ends, note)
  for _, slot in ipairs(slots) do
    redis.call('INCR', slot)
    redis.call('EXPIRE', slot, HOURS_S)
  end
  for i = 1, #funds, 2 do
    open_fund(funds[i], ends[(i + 1) / 2])
    add(funds[i], 'U', funds[i + 1])
  end
  if #slots + #funds == 0 then return '' end
  return cmsgpack.pack({slots, funds, note})
end

-- Frees the slots; the funds go to ``each(fund, amount)`` unless they are forgotten already. Returns the note.
local function free(reservation, each)
  if reservation == '' then return '' end
  local held = cmsgpack.unpack(reservation)
  for _, slot in ipairs(held[1]) do
    if redis.call('DECR', slot) <= 0 then redis.call('DEL', slot) end
  end
  for i = 1, #held[2], 2 do
    if redis.call('HEXISTS', held[2][i], 'U') == 1 then each(held[2][i], held[2][i + 1]) end
  end
  return held[3]
end

local function release(fund, amount)
  subtract(fund, 'U', amount)
end

local function known(writers, writer)
  local lease = redis.call('ZSCORE', writers, writer)
  return lease and tonumber(lease) > now
end

-- From ``reply``'s end on: S and U of each fund. KEYS from ``key`` on: funds; ARGV from ``arg`` on: total, end_s.
local function take_over(reply, writer, key, arg, count)
  for i = 0, count - 1 do
    local fund, total, field = KEYS[key + i], ARGV[arg + 2 * i], 's:' .. writer
    local old = redis.call('HGET', fund, field) or '0'
    if more(total, old) then
      open_fund(fund, ARGV[arg + 2 * i + 1])
      redis.call('HSET', fund, field, total)
      for _, sum in ipairs({'S', 'U'}) do
        subtract(fund, sum, old)
        add(fund, sum, total)
      end
    end
  end
  for i = 0, count - 1 do push_fund(reply, KEYS[key + i]) end
  return reply
end
