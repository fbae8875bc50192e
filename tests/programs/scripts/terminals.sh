# pseudo-terminals: script, expect, Python's pty, tmux
# needs: script expect /usr/bin/python3 tmux
script -qc 'read -r line; tty; echo "read: $line"; exit 3' /dev/null | sed 's/[0-9][0-9]*/N/'
/usr/bin/python3 -c 'import pty; pty.spawn(["sh", "-c", "test -t 0 && echo tty; stty size"])'
expect -c 'spawn sh; send "echo x\$((1+1))\r"; expect "x2"; send "exit\r"; expect eof; puts "\ndone"' | tail -1
tmux -L kasoku-test new-session -d 'sleep 5'
tmux -L kasoku-test ls | cut -c1-2
tmux -L kasoku-test kill-server
