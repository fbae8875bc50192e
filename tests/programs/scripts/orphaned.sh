# a stopped group that loses its keeper
# needs: /usr/bin/python3
/usr/bin/python3 - <<'X'
import os, signal, time
r,w=os.pipe()
p=os.fork()
if not p:
    os.setpgid(0,0)
    q=os.fork()
    if not q:
        signal.signal(signal.SIGHUP, lambda *a: os.write(w,b"hup"))
        signal.signal(signal.SIGCONT, lambda *a: os.write(w,b"cont"))
        os.kill(os.getpid(),signal.SIGSTOP); time.sleep(.2); os._exit(0)
    os.waitpid(q,os.WUNTRACED); os._exit(0)
os.waitpid(p,0); time.sleep(.3); print(sorted([os.read(r,3),os.read(r,4)])==sorted([b"hup",b"cont"]) )
X
