"""What a Valkey or Redis server is told to do in one step, in its Lua."""

# KEYS: all begin with ARGV[1], the prefix. Each answer has a hash, and a place in the orders of rank and of age.
FIND = """
local one = ARGV[1] .. 'a:' .. ARGV[2]
local found = redis.call('HMGET', one, 'data', 'size', 'worth')
if not found[1] then return false end
local times = redis.call('HINCRBY', one, 'times', 1)
local floor = tonumber(redis.call('GET', ARGV[1] .. 'floor') or '0')
redis.call('ZADD', ARGV[1] .. 'rank', 'XX', string.format('%.17g', floor + found[3] * times / found[2]), ARGV[2])
return {found[1], redis.call('PTTL', one)}
"""
# ARGV[2] and on: keys, each with how often it was found where this server was not asked.
COUNT_CHANGES = """
local floor = tonumber(redis.call('GET', ARGV[1] .. 'floor') or '0')
for place = 2, #ARGV, 2 do
    local one = ARGV[1] .. 'a:' .. ARGV[place]
    local found = redis.call('HMGET', one, 'size', 'worth')
    if found[1] then
        local times = redis.call('HINCRBY', one, 'times', ARGV[place + 1])
        local rank = string.format('%.17g', floor + found[2] * times / found[1])
        redis.call('ZADD', ARGV[1] .. 'rank', 'XX', rank, ARGV[place])
    end
end
return {tonumber(redis.call('GET', ARGV[1] .. 'changes') or '0'), redis.call('GET', ARGV[1] .. 'secret')}
"""
_FORGET = """
local function forget(key)
    local size = redis.call('ZSCORE', ARGV[1] .. 'size', key)
    if size then redis.call('DECRBY', ARGV[1] .. 'total', string.format('%d', size)) end
    redis.call('ZREM', ARGV[1] .. 'size', key)
    redis.call('ZREM', ARGV[1] .. 'rank', key)
    redis.call('ZREM', ARGV[1] .. 'made', key)
    redis.call('DEL', ARGV[1] .. 'a:' .. key)
end
"""
KEEP = (
    _FORGET
    + """
local prefix, key, size, worth, most = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[9])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'made', '-inf', ARGV[11], 'LIMIT', 0, 100)) do
    forget(old)
end
if redis.call('EXISTS', prefix .. 'a:' .. key) == 1 then redis.call('INCR', prefix .. 'changes') end
forget(key)
local floor = tonumber(redis.call('GET', prefix .. 'floor') or '0')
redis.call('HSET', prefix .. 'a:' .. key, 'data', ARGV[3], 'size', ARGV[4], 'worth', ARGV[5], 'times', 1,
    'model', ARGV[6], 'owner', ARGV[7], 'digest', ARGV[12])
redis.call('PEXPIRE', prefix .. 'a:' .. key, ARGV[10])
redis.call('ZADD', prefix .. 'rank', string.format('%.17g', floor + worth / size), key)
redis.call('ZADD', prefix .. 'made', ARGV[8], key)
redis.call('ZADD', prefix .. 'size', size, key)
local total = redis.call('INCRBY', prefix .. 'total', ARGV[4])
local gone = 0
while total > most do
    local next = redis.call('ZRANGE', prefix .. 'rank', 0, 0, 'WITHSCORES')
    if not next[1] then break end
    redis.call('SET', prefix .. 'floor', next[2])
    forget(next[1])
    gone = gone + 1
    total = tonumber(redis.call('GET', prefix .. 'total') or '0')
end
return gone
"""
)
PURGE = (
    _FORGET
    + """
local gone = 0
for place = 2, #ARGV do
    gone = gone + redis.call('EXISTS', ARGV[1] .. 'a:' .. ARGV[place])
    forget(ARGV[place])
end
if gone > 0 then redis.call('INCR', ARGV[1] .. 'changes') end
return gone
"""
)
