# Stands in for a model: makes one sentence, as JSON, of lines such as "- It starts faster.".
/^- / {
	line = substr($0, 3)
	breaking = breaking || line ~ /^BREAKING: /
	sub(/^BREAKING: /, "", line)
	gsub(/["\\]/, "\\\\&", line)
	text = text (text ? " " : "") line
}
END {
	printf "{\"text\": \"%s\", \"breaking\": %s}\n", text, breaking ? "true" : "false"
}
