# a POSIX shell: traps, here-documents, subshells, jobs
# needs: dash
trap 'echo exit trap' EXIT
x=$(echo a; echo b)
echo "$x"
cat <<EOF
here $x $((1+2))
EOF
f() { echo in f $1; return 3; }
f z
echo $?
for i in 1 2 3; do echo $i; done | while read l; do echo l$l; done
(exit 4)
echo $?
sleep 0.1 & wait $!
echo $?
sh -c 'kill -TERM $$'
echo $?
set -e
trap 'echo usr1' USR1
kill -USR1 $$
echo done
ls /nonexist 2>/dev/null || echo no
read v
echo "$v"
echo a | (cat; echo b) | cat
exec 3>f3
echo x >&3
exec 3>&-
cat f3
umask
type ls
command -v sh
times >/dev/null
case abc in a*) echo m;; esac
