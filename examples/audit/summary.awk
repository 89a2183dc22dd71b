# Stands in for a model: tells of lines such as "config/settings.ini secrets=2 marks=0 lines=9".
/ secrets=[0-9]+ marks=[0-9]+ / {
	split($2, secrets, "=")
	split($3, marks, "=")
	files++
	found += secrets[2] + marks[2] > 0
	if (secrets[2] > most) {
		most = secrets[2]
		worst = $1
	}
}
END {
	if (worst) {
		printf "Look at %s first: %d of its lines may be secrets.\n", worst, most
	}
	printf "%d of %d files have findings.\n", found, files
}
