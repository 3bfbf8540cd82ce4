#!/bin/bash
# sqlite3 keeps its promises: many transactions, integrity_check, rollback.
. "$(dirname "$0")/lib.sh"

work_dir
{
	echo 'CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);'
	for i in $(seq 100); do
		echo "INSERT INTO t VALUES ($i, 'row $i');"
	done
	echo "BEGIN; DELETE FROM t; ROLLBACK;"
} | wfs sqlite3 "$work/db"
[ "$(wfs sqlite3 "$work/db" 'PRAGMA integrity_check; SELECT count(*) FROM t')" = $'ok\n100' ] ||
	fail "contents"
