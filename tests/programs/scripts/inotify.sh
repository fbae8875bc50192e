# inotify: what is told of files and directories, and in which order
# needs: /usr/bin/python3
/usr/bin/python3 - <<'X'
import ctypes
import os
import select
import struct

libc = ctypes.CDLL(None, use_errno=True)
NAMES = {
    0x1: "ACCESS", 0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x10: "CLOSE_NOWRITE", 0x20: "OPEN",
    0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE", 0x400: "DELETE_SELF", 0x800: "MOVE_SELF",
    0x8000: "IGNORED", 0x40000000: "ISDIR",
}
fd = libc.inotify_init1(os.O_NONBLOCK)


def watch(path, mask=0xFFF):
    number = libc.inotify_add_watch(fd, path.encode(), mask)
    return number if number >= 0 else -ctypes.get_errno()


def told(what):
    print("--", what)
    cookies = {}
    while select.select([fd], [], [], 0)[0]:
        data = os.read(fd, 4096)
        while data:
            number, mask, cookie, length = struct.unpack_from("iIII", data)
            name = data[16 : 16 + length].rstrip(b"\0").decode()
            data = data[16 + length :]
            cookie = cookies.setdefault(cookie, len(cookies)) if cookie else "-"
            print(number, "|".join(text for bit, text in NAMES.items() if mask & bit), cookie, name)


os.mkdir("d")
print(watch("d"), watch("missing"), watch("d", 0), watch("d", 0x10000000 | 2))
with open("d/f", "w") as f:
    told("made")
    f.write("x")
told("written and closed")
open("d/f").read()
told("read")
os.chmod("d/f", 0o600)
os.utime("d/f")
os.truncate("d/f", 0)
told("changed")
print(watch("d/f"))
os.rename("d/f", "d/g")
told("renamed")
os.link("d/g", "d/h")
told("linked")
open("d/z", "w").close()
os.rename("d/z", "d/g")
told("replaced")
os.unlink("d/h")
told("removed")
os.symlink("g", "d/s")
os.mkdir("d/sub")
os.rename("d/sub", "sub")
os.rmdir("sub")
os.listdir("d")
told("directories")
print(libc.inotify_rm_watch(fd, 1), libc.inotify_rm_watch(fd, 99), ctypes.get_errno())
told("the watch ended")
os.mkdir("once")
print(watch("once", 0x100 | 0x80000000))
open("once/a", "w").close()
open("once/b", "w").close()
told("one shot")
os.mkdir("gone")
print(watch("gone"))
os.rmdir("gone")
told("gone")
X
touch log
timeout 5 tail -n +1 -f log > seen &
sleep 0.3
echo appended >> log
sleep 0.5
kill $!
cat seen
