# resource limits: processor time, file sizes, memory, descriptors
# needs: /usr/bin/python3
(ulimit -t 1; while :; do :; done) 2>/dev/null
echo $?
(ulimit -f 1; head -c 5000 /dev/zero > large) 2>/dev/null
echo $?
wc -c large
(ulimit -v 500000; /usr/bin/python3 -c 'bytearray(10**9)' 2>&1 | tail -1)
(ulimit -n 20; /usr/bin/python3 - <<'X'
files = []
try:
    while True:
        files.append(open("/dev/null"))
except OSError as error:
    print(error.errno, len(files))
X
)
/usr/bin/python3 - <<'X'
import os
import resource
import signal

seen = []
signal.signal(signal.SIGXFSZ, lambda *_: seen.append("SIGXFSZ"))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
with open("f", "wb", buffering=0) as f:
    print(f.write(b"x" * 900), f.write(b"x" * 200))
    for attempt in (lambda: f.write(b"x"), lambda: f.truncate(2000)):
        try:
            attempt()
        except OSError as error:
            print(error.errno, seen)
print(os.path.getsize("f"))
signal.signal(signal.SIGXCPU, lambda *_: seen.append("SIGXCPU"))
resource.setrlimit(resource.RLIMIT_CPU, (1, 10))
while len(seen) < 3:
    pass
print(seen)
X
