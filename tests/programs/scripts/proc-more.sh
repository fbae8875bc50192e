# what programs look up about themselves beyond the usual: namespaces, memory, the out-of-memory killer, policies, the interface
for name in /proc/self/ns/*; do readlink "$name" | sed 's/:.*//'; done
ls /proc/self/ns
echo 300 > /proc/self/oom_score_adj
cat /proc/self/oom_score_adj
sh -c 'cat /proc/self/oom_score_adj'
(echo 1001 > /proc/self/oom_score_adj) 2>&1 | sed 's/.*: //'
(echo x > /proc/self/oom_score_adj) 2>&1 | sed 's/.*: //'
grep -c '^Rss: ' /proc/self/smaps_rollup
awk '{ print NF }' /proc/self/schedstat
cat /proc/self/setgroups /proc/self/projid_map
for limit in watches instances; do test "$(cat /proc/sys/fs/inotify/max_user_$limit)" -gt 100 && echo "$limit"; done
for file in address flags ifindex mtu operstate type; do cat /sys/class/net/lo/$file; done
/usr/bin/python3 -c '
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
attributes = ctypes.create_string_buffer(48)
os.setpriority(os.PRIO_PROCESS, 0, 12)
print(libc.syscall(315, 0, attributes, 48, 0), struct.unpack("IIQiIQQQ", attributes)[:5])
print(libc.syscall(315, 0, attributes, 20, 0), ctypes.get_errno())
print(libc.syscall(314, 0, struct.pack("IIQiIQQQ", 48, 0, 0, 15, 0, 0, 0, 0), 0), os.nice(0))
print(libc.syscall(314, 0, struct.pack("IIQiIQQQ", 48, 99, 0, 5, 0, 0, 0, 0), 0), ctypes.get_errno())
'
grep -c '^pswp' /proc/vmstat
/usr/bin/python3 -c '
import ctypes, fcntl, socket, struct
question = ctypes.create_string_buffer(struct.pack("I", 1), 64)
for name in (b"lo", b"none"):
    try:
        fcntl.ioctl(socket.socket(), 0x8946, struct.pack("16sQ16x", name, ctypes.addressof(question)))
    except OSError as error:
        print(name, error.errno)
'
