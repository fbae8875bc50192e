# job control of a shell without a terminal
# needs: bash
set -m
sleep 0.3 & jobs
wait
sleep 10 & kill %1
wait %1
echo $?
sleep 10 & kill -STOP %1
sleep 0.1
jobs | sed 's/  */ /g'
kill -CONT %1
sleep 0.1
jobs| sed 's/  */ /g'
kill %1
wait
(sleep 0.2; echo bg) & fg %1
disown -a
echo end
