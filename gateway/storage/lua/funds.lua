-- KEYS: funds. Reply: of each: spent, used
local reply = {}
for _, fund in ipairs(KEYS) do push_fund(reply, fund) end
return reply
