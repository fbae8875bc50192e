# a stopped child, as /proc and wait tell
sleep 5 & p=$!
kill -STOP $p
sleep 0.1
cut -d' ' -f3 /proc/$p/stat
kill -CONT $p
sleep 0.1
cut -d' ' -f3 /proc/$p/stat
kill -TERM $p
wait $p
echo $?
