-- KEYS: writers of all tenants. ARGV: writer, lease_us. Reply: how many live
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], HOURS_S)
return redis.call('ZCARD', KEYS[1])
