# find and xargs, several children at a time
# needs: find xargs
mkdir -p a/b/c
touch a/1 a/b/2.c a/b/c/3.c
find . -name '*.c' | sort
find . -type d | sort
find . -name '*.c' -exec echo {} \; | sort
find . -name '*.c' -exec echo {} + | wc -w
find a -name '*.c' -print0 | xargs -0 -n1 basename | sort
seq 1 100 | xargs -P 4 -n 10 echo | wc -l
seq 20 | xargs -P 8 -I{} sh -c 'exit 0'
echo $?
find /usr/bin -name 'z*' | sort | md5sum
find a -depth -delete
ls
xargs -n1 false <<< "x"
echo $?
find /usr/share/doc | wc -l
