# gdb: breakpoints, steps, variables, calls, watched expressions, a crash's stack, an attached program
# needs: gdb gcc
# as: root
# where: gdb -q -nx -batch -ex run /bin/true 2>&1 | grep -q 'exited normally'
export LC_ALL=C HOME=$PWD
cat >t.c <<'X'
#include <stdio.h>
#include <unistd.h>
int total;
struct pair { int a; double b; } pair = {1, 2.5};
static int add(int n) {
    total += n;
    return total * 2;
}
static int read_at(int *p) { return *p; }
int main(int argc, char **argv) {
    for (int i = 0; i < 4; i++)
        add(i);
    printf("%d\n", total);
    fflush(stdout);
    if (argc > 2)
        pause();
    return argc > 1 ? read_at((int *)8) : total;
}
X
gcc -g -O0 -o t t.c || exit
debug() { gdb -q -nx -batch -iex 'set debuginfod enabled off' -iex 'set auto-load no' "$@" 2>&1 | sed -E 's/process [0-9]+/process N/; s/0x[0-9a-f]+/ADDRESS/g; s/^\[(New|Thread|Attaching).*//; /libthread_db/d; /^$/d'; }
echo run; debug -ex 'break add if n == 2' -ex run -ex bt -ex 'print total' -ex 'print pair' -ex finish -ex 'next' -ex 'info locals' -ex 'print add(10)' -ex 'set var total = 40' -ex continue ./t
echo step; debug -ex 'break 6' -ex run -ex 'stepi' -ex 'step' -ex 'step' -ex 'info breakpoints' -ex 'delete' -ex continue ./t
echo watch; debug -ex 'set can-use-hw-watchpoints 0' -ex 'break add' -ex run -ex 'watch total' -ex continue -ex 'info registers eflags' -ex kill ./t | grep -v eflags
echo crash; debug -ex run -ex bt -ex 'print $_siginfo.si_signo' -ex 'print $_siginfo._sifields._sigfault.si_addr' --args ./t x
echo attach; ./t x y >out & while ! [ -s out ]; do sleep 0.05; done
debug -p $! -ex 'frame function main' -ex 'print argc' -ex detach | grep -E 'argc|^\$'
kill $!; wait $!; echo $?
