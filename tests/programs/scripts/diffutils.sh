# diffutils and patch
# needs: diff patch
seq 1 10 > a
seq 2 11 > b
diff a b
diff -u --label a --label b a b
cmp a b
diff3 a a b
sdiff a b
patch --version | head -1
diff -u a b > p
patch a p
cmp a b
echo $?
