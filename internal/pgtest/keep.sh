# keep.sh BIN DIR PORT FSYNC: a Postgres cluster in DIR that lives as long as this script's standard input is open.
# Nobody writes there: the end of the input is the death of whoever wanted the cluster, and the kernel reports that
# even after kill -9.
bin=$1 dir=$2 port=$3 fsync=$4
exec 3<&0 </dev/null

"$bin/initdb" -D "$dir/data" -U postgres -E UTF8 --no-locale --no-sync --pwfile="$dir/password" \
	--auth-local=trust --auth-host=scram-sha-256 3<&- && {
	"$bin/postgres" -D "$dir/data" -k "$dir" -h 127.0.0.1 -p "$port" -c fsync="$fsync" -c max_connections=400 3<&- &
	server=$!
	# QUIT is the immediate shutdown: nothing in DIR is worth a checkpoint.
	{ cat <&3; kill -QUIT "$server"; } &
	exec 3<&-
	wait "$server"
}
rm -rf "$dir"
echo "pgtest: postgres has stopped"
