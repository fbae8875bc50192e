# extended attributes
# needs: /usr/bin/python3
/usr/bin/python3 - <<'X'
import errno, os
def attempt(what, *arguments, **options):
    try:
        print(what.__name__, what(*arguments, **options))
    except OSError as error:
        print(what.__name__, errno.errorcode[error.errno])
open("f", "w").close()
os.symlink("f", "l")
os.mkdir("d")
attempt(os.setxattr, "f", "user.one", b"1")
attempt(os.setxattr, "f", "user.one", b"2", os.XATTR_CREATE)
attempt(os.setxattr, "f", "user.two", b"2", os.XATTR_REPLACE)
attempt(os.setxattr, "l", "user.two", b"two")
attempt(os.setxattr, "l", "user.two", b"two", follow_symlinks=False)
attempt(os.setxattr, "d", "user.empty", b"")
attempt(os.setxattr, "f", "user." + "x" * 251, b"")
attempt(os.setxattr, "f", "unknown.x", b"")
attempt(os.getxattr, "f", "user.one")
attempt(os.getxattr, "l", "user.two")
attempt(os.getxattr, "d", "user.empty")
attempt(os.getxattr, "f", "user.three")
attempt(os.listxattr, "d")
print(sorted(name for name in os.listxattr("f") if name.startswith("user.")))
attempt(os.removexattr, "f", "user.one")
attempt(os.removexattr, "f", "user.one")
os.rename("f", "g")
attempt(os.getxattr, "g", "user.two")
os.link("g", "h")
attempt(os.getxattr, "h", "user.two")
attempt(os.setxattr, "/proc/self/status", "user.x", b"")
X
