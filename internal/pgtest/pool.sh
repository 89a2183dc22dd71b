# pool.sh PROGRAM DIR: PgBouncer with DIR/ini, which lives as long as this script's standard input is open: its end is the death of
# whoever wanted the pooler.
program=$1 dir=$2
exec 3<&0 </dev/null
"$program" "$dir/ini" 3<&- &
read -r _ <&3
kill "$!" 2>/dev/null
wait
rm -rf "$dir"
