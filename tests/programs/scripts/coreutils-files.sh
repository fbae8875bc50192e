# coreutils: files, links, modes, copies
# needs: shred
echo hello > a
cp a b
cp -p a c
mv b d
ln a e
ln -s a f
ls -1
cat f
readlink f
stat -c '%n %s %F %h %a' *
mkdir -p x/y/z
touch x/y/z/q
cp -r x w
ls -R w
rm -r x
rmdir w 2>/dev/null
echo $?
chmod 600 a
stat -c %a a
chmod u+x,g=r a
stat -c %a a
install -m 755 a inst
stat -c %a inst
mkfifo ff
stat -c %F ff
truncate -s 1M big
stat -c %s big
dd if=/dev/zero of=big bs=4k count=3 2>/dev/null
wc -c big
du -b big
basename /a/b.c .c
dirname /a/b
realpath -m /a/../b
pwd | sed 's/.*/ok/'
touch -d @1000000000 a
stat -c %Y a
shred -u inst
ls
mktemp -u | wc -c
sync
link a lnk
unlink lnk
test -f a && echo f
[ -L f ] && echo L
