# stops, continues and the waits that tell of them
# needs: /usr/bin/python3
/usr/bin/python3 - <<'X'
import os, signal, time
def child():
    signal.signal(signal.SIGTERM, lambda *a: os._exit(5))
    while True: time.sleep(0.05)
p=os.fork()
if not p: child()
time.sleep(.1)
os.kill(p,signal.SIGSTOP); x,s=os.waitpid(p,os.WUNTRACED); print(os.WIFSTOPPED(s),os.WSTOPSIG(s))
print(os.waitpid(p,os.WNOHANG|os.WUNTRACED|os.WCONTINUED))
os.kill(p,signal.SIGTERM); time.sleep(.1); print(os.waitpid(p,os.WNOHANG)); print(open(f"/proc/{p}/stat").read().split()[2])
os.kill(p,signal.SIGCONT); x,s=os.waitpid(p,os.WCONTINUED); print(os.WIFCONTINUED(s) or os.WIFEXITED(s))
if not os.WIFEXITED(s): os.waitpid(p,0)
p=os.fork()
if not p: child()
os.kill(p,signal.SIGSTOP); r=os.waitid(os.P_PID,p,os.WSTOPPED|os.WNOWAIT); print(r.si_code==os.CLD_STOPPED,r.si_status); r=os.waitid(os.P_PID,p,os.WSTOPPED); print(r.si_status)
os.kill(p,signal.SIGKILL); print(os.waitpid(p,os.WCONTINUED)[1])
got=[]
signal.signal(signal.SIGCHLD,lambda *a: got.append(1))
p=os.fork()
if not p: child()
os.kill(p,signal.SIGSTOP); time.sleep(.1); os.kill(p,signal.SIGCONT); time.sleep(.1); os.kill(p,signal.SIGKILL); time.sleep(.1); print(len(got)); os.wait()
# threads stop too
import threading
r,w=os.pipe()
p=os.fork()
if not p:
    def t():
        while True: os.write(w,b"x"); time.sleep(.01)
    for i in range(3): threading.Thread(target=t).start()
    time.sleep(9)
time.sleep(.2); os.kill(p,signal.SIGSTOP); os.waitpid(p,os.WUNTRACED); time.sleep(.05); os.set_blocking(r,False)
os.read(r,100000); time.sleep(.1)
try: os.read(r,1); print("ran")
except BlockingIOError: print("quiet")
os.kill(p,signal.SIGCONT); time.sleep(.1); print(len(os.read(r,1000))>0); os.kill(p,9); os.wait()
X
