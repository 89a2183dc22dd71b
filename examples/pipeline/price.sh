# Books one order, such as 17,3,250: writes it into the ledger and says what it comes to.
IFS=, read -r number pieces cents <<END
$1
END
if [ "$pieces" -eq 0 ]; then
	echo "order $number has no pieces" >&2
	exit 3
fi
total=$((pieces * cents))
echo "$number $total" >>out/ledger.txt
echo "{\"number\": $number, \"cents\": $total}"
