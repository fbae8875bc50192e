# coreutils: text tools, process substitution
seq 1 20 > n
head -3 n
tail -3 n
tac n | head -1
sort -rn n | head -2
shuf n | sort -n | md5sum
cut -c1 n | uniq -c
paste n n | head -2
join <(seq 1 5) <(seq 3 7)
comm <(seq 1 3) <(seq 2 4)
nl n | head -2
fold -w 5 <<< abcdefghij
fmt -w 10 <<< "a b c d e f g h"
pr -h x -t n | head -2
expand <<< $'a\tb'
unexpand -a <<< "a        b"
tr a-z A-Z <<< abc
od -c <<< abc
base64 <<< abc
base32 <<< abc
split -l 5 n
ls
csplit n 5 10
wc n
cksum n
sum n
md5sum n
sha1sum n
sha512sum n
b2sum n
printf 'a b\nb c\n' | tsort
ptx <<< "a b c"
numfmt --to=iec 1048576
factor 1234567890
expr 3 + 4
printf '%5.2f %s\n' 3.14159 x
printf '%q\n' 'a b'
seq -s, 1 5
yes | head -2
rev <<< abc 2>/dev/null
echo -e 'a\nb' | tee t | cat
cat t
dircolors -b | head -1
stdbuf -oL echo x
basenc --base16 <<< abc
sha256sum -c <(sha256sum n)
truncate -s 3 t
cat t
