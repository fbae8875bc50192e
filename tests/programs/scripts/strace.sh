# strace: calls, signals and ends of programs, their children and threads
# needs: strace /usr/bin/python3
# as: root
# where: strace -o /dev/null true
plain() { sed -E 's/^[0-9]+ +//; s/0x[0-9a-f]+/ADDRESS/g; s/si_pid=[0-9]+/si_pid=N/; s/si_[us]time=[0-9]+/si_time/g; s/ +(= )/ \1/' "$1"; }
echo one; strace -qq -o out -e signal=none -e trace=mkdir,rmdir,chdir sh -c 'mkdir d; cd d; cd ..; rmdir d; exit 3'; echo $?; plain out
echo children; strace -qq -f -e signal=none -o out -e trace=mkdir,rmdir,exit_group sh -c 'mkdir e; rmdir e; (exit 4); echo $?'; echo $?; plain out
echo signals; strace -qq -o out -e trace=kill -e signal=TERM,USR1 sh -c 'trap "echo got" USR1; kill -USR1 $$; kill -TERM $$'; echo $?; plain out | sed -E 's/kill\([0-9]+/kill(N/'
echo suppressed; strace -qq -o out -e trace=rmdir -e inject=rmdir:error=EIO rmdir nothing; echo $?; plain out
echo counted; strace -c -o out -e trace=mkdir mkdir f; awk '/mkdir/ {print $4, $NF}' out
echo threads; strace -qq -f -e signal=none -o out -e trace=rmdir /usr/bin/python3 -c '
import os, threading
def work(i):
    try: os.rmdir(f"t{i}")
    except OSError as error: print(error)
for i in range(3):
    thread = threading.Thread(target=work, args=(i,)); thread.start(); thread.join()
'; plain out
echo attached; sleep 100 & sleep=$!
strace -qq -o out -e trace=none -e signal=CONT,TERM -p $sleep & tracer=$!
until grep -q "^TracerPid:.$tracer\$" /proc/$sleep/status; do sleep 0.05; done
kill -CONT $sleep; kill $sleep; wait $sleep; echo $?; wait $tracer; echo $?; plain out
