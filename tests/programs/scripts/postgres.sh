# PostgreSQL: initdb, server, client, as another user
# needs: setpriv /usr/lib/postgresql/15/bin/initdb
# as: root
chmod 777 .
chown postgres: .
setpriv --reuid postgres --regid postgres --clear-groups bash -c '
    export PATH=/usr/lib/postgresql/15/bin:$PATH
    initdb -D data -A trust >/dev/null
    pg_ctl -D data -w -o "-p $PORT -k $PWD" -l log start >/dev/null
    psql -h "$PWD" -p "$PORT" postgres -Atc "create table t as select generate_series(1, 1000) a; select sum(a) from t"
    psql -h 127.0.0.1 -p "$PORT" postgres -Atc "select count(*) > 0 from pg_class"
    pg_ctl -D data -m fast -w stop | tail -1
' 2>/dev/null
echo $?
