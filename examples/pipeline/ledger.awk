# Adds up the ledger. An order that stands there twice was booked twice.
{
	cents += $2
	twice += seen[$1]++ > 0
}
END {
	printf "{\"booked\": %d, \"twice\": %d, \"cents\": %d}\n", NR, twice, cents
}
