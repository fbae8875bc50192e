# bc, dc, ed, m4, jq
# needs: bc dc ed m4 jq
echo '2^100; scale=20; 4*a(1)' | bc -l
echo '20k 2v p 10 16 o i A p' | dc
printf 'a\nhello\n.\n1,$s/l/L/g\np\nw out\nq\n' | ed -s
cat out
echo 'define(`x'\'',`y'\'')x eval(3*4) syscmd(echo hi)' | m4
jq -c '.a[]|.b' <<< '{"a":[{"b":1},{"b":[2,null]}]}'
jq -n '[range(1000)]|add'
