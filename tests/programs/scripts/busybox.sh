# busybox applets, httpd and wget, nc
# needs: busybox
busybox ash -c 'for i in 1 2; do echo $i; done | busybox tac; trap "echo t" EXIT; echo $((2**8))'
mkdir www
seq 1000 > www/f
busybox tar cf a.tar www
busybox tar tf a.tar
busybox find www | busybox sort
busybox httpd -f -p 127.0.0.1:$PORT -h www &
for try in $(seq 100); do busybox wget -q -O got http://127.0.0.1:$PORT/f 2>/dev/null && break; sleep 0.1; done
busybox md5sum got
kill $!
busybox gzip -k www/f
busybox zcat www/f.gz | busybox wc
busybox awk 'BEGIN{print 1+1}'
busybox sed s/a/b/ <<X
aaa
X
busybox vi --help 2>&1 | head -1 >/dev/null
busybox ls -la / >/dev/null
echo $?
busybox ps >/dev/null
echo $?
busybox top -bn1 >/dev/null
echo $?
busybox free >/dev/null
echo $?
busybox df >/dev/null
echo $?
busybox mount >/dev/null
echo $?
busybox id nobody
busybox nslookup localhost >/dev/null 2>&1
busybox timeout 1 sleep 3
echo $?
busybox dd if=/dev/urandom of=r bs=1k count=10 2>/dev/null
busybox stat -c %s r
busybox nc -l -p $OTHER_PORT > nc.out &
for try in $(seq 100); do echo net | busybox nc 127.0.0.1 $OTHER_PORT 2>/dev/null && break; sleep 0.1; done
wait
cat nc.out
