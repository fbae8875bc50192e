# bash: arrays, coprocesses, process substitution, traps
# needs: bash
declare -A m
m[a]=1
echo ${m[a]}
diff <(seq 3) <(seq 4)
exec 5< <(echo hi)
read -u 5 l
echo $l
coproc cat
echo x >&${COPROC[1]}
read -u ${COPROC[0]} y
echo $y
kill $COPROC_PID
echo ${BASH_VERSION%%.*}
mapfile -t arr < <(seq 3)
echo ${#arr[@]}
printf -v z '%03d' 7
echo $z
[[ abc =~ b(.) ]]
echo ${BASH_REMATCH[1]}
trap 'echo int' INT
kill -INT $$
sleep 5 & p=$!
kill $p
wait $p
echo $?
set -o pipefail
false | true
echo $?
echo ${PIPESTATUS[@]}
time -p true 2>/dev/null
(trap '' TERM; kill $BASHPID; echo survived)
cat <<< "herestring"
cat <<-EOF
	tab
	EOF
wait
ulimit -c
echo $BASH_SUBSHELL
(echo $BASH_SUBSHELL)
