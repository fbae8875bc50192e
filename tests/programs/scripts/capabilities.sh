# capabilities, users, priorities
# needs: setpriv ionice /usr/bin/python3
# as: root
setpriv --reuid 65534 --regid 65534 --clear-groups id
setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'grep -E "^Cap(Inh|Prm|Eff|Amb)" /proc/self/status; kill -0 1; echo $?'
setpriv --inh-caps=-all --bounding-set=-all sh -c 'grep ^Cap /proc/self/status'
setpriv --no-new-privs grep NoNew /proc/self/status
/usr/bin/python3 - <<'X'
import os

os.setuid(1000)
for attempt in (lambda: os.setuid(0), lambda: os.setgroups([1])):
    try:
        attempt()
    except PermissionError as error:
        print(error)
X
echo $(($(nice -n 3 nice) - $(nice)))
ionice -c 2 -n 3 ionice
