# python: asyncio with children, sockets, signals
# needs: /usr/bin/python3
/usr/bin/python3 - <<'X'
import asyncio, sys
async def main():
    p=await asyncio.create_subprocess_exec("echo","hi",stdout=asyncio.subprocess.PIPE); print(await p.communicate(), p.returncode)
    p=await asyncio.create_subprocess_shell("cat; exit 3",stdin=asyncio.subprocess.PIPE,stdout=asyncio.subprocess.PIPE); print(await p.communicate(b"zzz"), p.returncode)
    async def h(r,w): w.write((await r.readline()).upper()); await w.drain(); w.close()
    s=await asyncio.start_server(h,"127.0.0.1",0); port=s.sockets[0].getsockname()[1]
    async def c(i):
        r,w=await asyncio.open_connection("127.0.0.1",port); w.write(b"m%d\n"%i); x=await r.read(); w.close(); return x
    print(await asyncio.gather(*[c(i) for i in range(50)]))
    s2=await asyncio.start_unix_server(h,"u.sock"); r,w=await asyncio.open_unix_connection("u.sock"); w.write(b"un\n"); print(await r.read())
    try: await asyncio.wait_for(asyncio.sleep(5),0.1)
    except asyncio.TimeoutError: print("to")
    loop=asyncio.get_running_loop(); print(await loop.run_in_executor(None,sum,range(10)))
    print(await loop.getaddrinfo("localhost",80,type=1))
    import signal; ev=asyncio.Event(); loop.add_signal_handler(signal.SIGUSR1,ev.set); import os; os.kill(os.getpid(),signal.SIGUSR1); await ev.wait(); print("sig")
asyncio.run(main())
X
