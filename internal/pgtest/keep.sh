# keep.sh BIN DIR PORT FSYNC LIBRARY: a Postgres cluster in DIR that lives as long as this script's standard input is
# open. The end of the input is the death of whoever wanted the cluster, and the kernel reports that even after kill -9.
# A line there asks for a crash: an immediate stop, and a start over what it has left. With the LIBRARY libfaketime the
# server's clock is apart from the machine's by what DIR/clock says; timeouts are not.
bin=$1 dir=$2 port=$3 fsync=$4 library=$5
exec 3<&0 </dev/null

# QUIT is the immediate shutdown. The first line of the file is the server's process.
quit() { kill -QUIT "$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null)" 2>/dev/null; }

"$bin/initdb" -D "$dir/data" -U postgres -E UTF8 --no-locale --no-sync --pwfile="$dir/password" \
	--auth-local=trust --auth-host=scram-sha-256 3<&- && {
	{
		while read -r _ <&3; do
			: >"$dir/again"
			quit
		done
		: >"$dir/end"
		# Until it is gone: it may just be starting again. Nothing in DIR is worth a checkpoint.
		while [ -e "$dir/end" ]; do
			quit
			sleep 0.05
		done
	} &
	exec 3<&-
	[ -z "$library" ] || export LD_PRELOAD="$library" FAKETIME_TIMESTAMP_FILE="$dir/clock" FAKETIME_NO_CACHE=1 \
		FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1
	while "$bin/postgres" -D "$dir/data" -k "$dir" -h 127.0.0.1 -p "$port" -c fsync="$fsync" -c max_connections=400
		[ -e "$dir/again" ] && [ ! -e "$dir/end" ]; do
		rm "$dir/again"
	done
}
rm -rf "$dir"
echo "pgtest: postgres has stopped"
