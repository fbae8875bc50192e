# sqlite3: every journal mode, mapped files
# needs: sqlite3
for j in delete truncate persist memory wal off; do sqlite3 $j.db "pragma journal_mode=$j; create table t(a integer primary key,b text); begin; with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select x, hex(x) from c; commit; select count(*),sum(length(b)) from t; create index i on t(b); delete from t where a%2; vacuum; pragma integrity_check;"; done
sqlite3 wal.db .dump | md5sum
sqlite3 wal.db "pragma mmap_size=100000000; select count(*) from t;"
(sqlite3 wal.db "begin immediate; select 1; " ; sqlite3 wal.db "update t set b='x' where a=2")
sqlite3 wal.db "select b from t where a=2"
ls
