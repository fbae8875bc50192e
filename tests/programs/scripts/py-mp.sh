# python: multiprocessing in its three ways, shared memory
# needs: /usr/bin/python3
cat > m.py <<'X'
import multiprocessing as mp, os, concurrent.futures as cf, time
def sq(x): return x*x
def work(q,e): q.put("from child"); e.set()
if __name__=="__main__":
    for m in ("fork","spawn","forkserver"):
        c=mp.get_context(m)
        with c.Pool(2) as p: print(m,p.map(sq,range(10)))
        q=c.Queue(); e=c.Event(); pr=c.Process(target=work,args=(q,e)); pr.start(); print(q.get()); e.wait(); pr.join(); print(pr.exitcode)
        a,b=c.Pipe(); a.send([1]); print(b.recv())
        v=c.Value("i",3)
        with v.get_lock(): v.value+=1
        print(v.value)
    with cf.ProcessPoolExecutor(2) as ex: print(list(ex.map(sq,range(5))))
    with cf.ThreadPoolExecutor(4) as ex: print(list(ex.map(sq,range(5))))
    from multiprocessing import shared_memory
    s=shared_memory.SharedMemory(create=True,size=100); s.buf[0]=7; t=shared_memory.SharedMemory(s.name); print(t.buf[0]); t.close(); s.close(); s.unlink()
    with mp.Manager() as mg:
        d=mg.dict(); d[1]=2; print(dict(d))
X
/usr/bin/python3 m.py
