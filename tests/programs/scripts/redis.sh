# redis: server and client over the loopback
# needs: redis-server redis-cli
redis-server --port $PORT --save '' --daemonize no --logfile l >/dev/null & sleep 1
redis-cli -p $PORT set a 1
redis-cli -p $PORT incr a
redis-cli -p $PORT eval 'return redis.call("get","a")' 0
redis-benchmark -p $PORT -q -n 2000 -t set,get >/dev/null
echo $?
redis-cli -p $PORT save
ls dump.rdb
redis-cli -p $PORT bgsave
sleep 0.5
redis-cli -p $PORT lastsave >/dev/null
redis-cli -p $PORT info server | grep -c redis_version
redis-cli -p $PORT shutdown nosave
wait
echo $?
