# pipelines whose reader goes first
yes | head -1
echo ${PIPESTATUS[@]}
(sleep 0.2; echo x) | true
echo ${PIPESTATUS[@]}
seq 1 1000000 | tail -1
cat /dev/zero | head -c 50000000 | md5sum
