# System V shared memory, semaphores, message queues: a compiled C program
# needs: gcc
cat > s.c <<'X'
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <signal.h>
#include <sys/shm.h>
#include <sys/sem.h>
#include <sys/msg.h>
#include <sys/wait.h>
#define TRY(call) do { errno = 0; long r_ = (long)(call); printf("%ld %d\n", r_, errno); } while (0)
union semun { int val; struct semid_ds *buf; unsigned short *array; };
int main(void) {
    int id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600);
    char *p = shmat(id, 0, 0);
    if (!fork()) { strcpy(p + 9000, "from the child"); _exit(0); }
    wait(0);
    struct shmid_ds d;
    shmctl(id, IPC_STAT, &d);
    printf("%s, %zu bytes, %lu mappings\n", p + 9000, d.shm_segsz, (unsigned long)d.shm_nattch);
    char *q = shmat(id, 0, SHM_RDONLY);
    printf("%s\n", q + 9000);
    TRY(shmdt(q));
    TRY(shmdt(q));
    TRY(shmctl(id, IPC_RMID, 0));
    printf("%s\n", p + 9000);
    TRY(shmctl(id, IPC_STAT, &d));
    printf("%lu %o\n", (unsigned long)d.shm_nattch, d.shm_perm.mode);
    TRY(shmdt(p));
    TRY(shmctl(id, IPC_STAT, &d));
    TRY(shmget(0x123456, 1, 0));
    int a = shmget(0x123457, 100, IPC_CREAT | 0600), b = shmget(0x123457, 50, IPC_CREAT | 0600);
    printf("%d\n", a == b);
    TRY(shmget(0x123457, 100, IPC_CREAT | IPC_EXCL | 0600));
    TRY(shmget(0x123457, 200, 0600));
    shmctl(a, IPC_RMID, 0);

    int s = semget(IPC_PRIVATE, 3, 0600);
    union semun u = {.val = 1};
    semctl(s, 0, SETVAL, u);
    struct sembuf down = {0, -1, SEM_UNDO}, up = {0, 1, 0}, nowait = {0, -5, IPC_NOWAIT}, zero = {0, 0, 0};
    if (!fork()) { semop(s, &down, 1); _exit(0); }
    wait(0);
    TRY(semctl(s, 0, GETVAL));
    if (!fork()) { struct sembuf two = {0, -2, 0}; semop(s, &two, 1); printf("had two\n"); fflush(stdout); _exit(0); }
    usleep(100000);
    printf("%d waits\n", semctl(s, 0, GETNCNT));
    fflush(stdout);
    semop(s, &up, 1);
    wait(0);
    TRY(semctl(s, 0, GETVAL));
    TRY(semop(s, &nowait, 1));
    TRY(semop(s, &zero, 1));
    struct timespec soon = {0, 20000000};
    down.sem_flg = 0;
    TRY(semtimedop(s, &down, 1, &soon));
    if (!fork()) { int r = semop(s, &down, 1); TRY(r); fflush(stdout); _exit(0); }
    usleep(50000);
    semctl(s, 0, IPC_RMID);
    wait(0);

    int m = msgget(IPC_PRIVATE, 0600);
    struct { long kind; char text[100]; } x = {3, "three"}, y;
    msgsnd(m, &x, 6, 0);
    x.kind = 1; strcpy(x.text, "one"); msgsnd(m, &x, 4, 0);
    TRY(msgrcv(m, &y, 100, 1, 0));
    printf("%ld %s\n", y.kind, y.text);
    TRY(msgrcv(m, &y, 2, 0, 0));
    TRY(msgrcv(m, &y, 2, 0, MSG_NOERROR));
    printf("%ld\n", y.kind);
    TRY(msgrcv(m, &y, 100, 0, IPC_NOWAIT));
    if (!fork()) { usleep(50000); x.kind = 7; msgsnd(m, &x, 4, 0); _exit(0); }
    TRY(msgrcv(m, &y, 100, -8, 0));
    printf("%ld\n", y.kind);
    wait(0);
    msgctl(m, IPC_RMID, 0);
    TRY(msgsnd(m, &x, 1, 0));
    return 0;
}
X
gcc -o s s.c && ./s
