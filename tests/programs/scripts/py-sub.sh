# python: subprocess and posix_spawn
# needs: /usr/bin/python3
/usr/bin/python3 - <<'X'
import subprocess, os, sys, signal
print(subprocess.check_output("echo a; echo b >&2", shell=True, stderr=subprocess.STDOUT))
p=subprocess.Popen(["cat"],stdin=subprocess.PIPE,stdout=subprocess.PIPE); print(p.communicate(b"x"*1000000)[0].__len__())
p=subprocess.Popen(["sleep","10"]); p.send_signal(signal.SIGTERM); print(p.wait())
try: subprocess.run(["sleep","5"],timeout=0.2)
except subprocess.TimeoutExpired: print("timeout")
try: subprocess.run(["/nonexist"])
except FileNotFoundError as e: print(e)
print(subprocess.run("exit 7",shell=True).returncode)
print(subprocess.run(["sh","-c","ulimit -n 77; ulimit -n; echo $X"],env={"X":"y"},cwd="/",start_new_session=True,capture_output=True))
print(os.popen("echo popen").read())
pid=os.posix_spawn("/bin/echo",["echo","spawned"],os.environ); print(os.waitpid(pid,0)[1])
pid=os.fork()
if pid==0: os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]))
X
