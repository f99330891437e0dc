-- KEYS: writers, reservations, epoch. ARGV: writer, lease_us, the key of another's reservations and of what was
-- swept for it and of the notes that are left for it, all without its name. Reply: known, now, epoch, the notes of
-- what was swept
local writers, writer, notes = KEYS[1], ARGV[1], {}

local function sweep(other)
  local reservations, swept, left = ARGV[3] .. other, ARGV[4] .. other, ARGV[5] .. other
  for _, reservation in ipairs(redis.call('HVALS', reservations)) do
    local note = free(reservation, function(fund, amount)
      add(fund, 'S', amount)
      add(fund, 'x:' .. other, amount)
      redis.call('SADD', swept, fund)
    end)
    if note ~= '' then
      notes[#notes + 1] = note
      redis.call('RPUSH', left, note)
    end
  end
  redis.call('EXPIRE', swept, SWEPT_KEEP_S)
  redis.call('EXPIRE', left, FUND_KEEP_S)
  redis.call('DEL', reservations)
  redis.call('ZREM', writers, other)
end

local runs = known(writers, writer)
if runs then
  redis.call('ZADD', writers, now + tonumber(ARGV[2]), writer)
  redis.call('EXPIRE', writers, HOURS_S)
  redis.call('EXPIRE', KEYS[2], HOURS_S)
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', writers, '-inf', now)) do
  if other ~= writer then sweep(other) end
end
return {runs and 1 or 0, now, redis.call('GET', KEYS[3]) or '0', notes}
