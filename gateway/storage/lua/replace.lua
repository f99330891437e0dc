-- KEYS: key. ARGV: expected, ttl_ms (0: for ever), the value or none to delete. Reply: whether expected was there
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if not ARGV[3] then
  redis.call('DEL', KEYS[1])
elseif ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
return 1
