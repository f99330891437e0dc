-- KEYS: key. ARGV: value, ttl_ms (0: for ever). Reply: what was there, or nil when the value was put
local present = redis.call('GET', KEYS[1])
if present then return present end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return false
