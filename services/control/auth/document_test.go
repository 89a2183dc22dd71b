package auth

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table into docs/security.md")

// The table in docs/security.md is this package's.
func TestDocument(t *testing.T) {
	const path = "../../../docs/security.md"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(have, []byte("-update` -->\n"))
	_, tail, found := bytes.Cut(rest, []byte("<!-- end -->\n"))
	if !ok || !found {
		t.Fatal("the marks around the table are gone")
	}
	want := fmt.Appendf(nil, "%s-update` -->\n\n%s\n<!-- end -->\n%s", head, table(), tail)
	if bytes.Equal(have, want) {
		return
	}
	if !*update {
		t.Fatal("docs/security.md has another table: run go test ./services/control/auth -run TestDocument -update")
	}
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// table is Rules for people. Lines are short: names of services are left out.
func table() string {
	var b strings.Builder
	b.WriteString("| to | takes | by |\n|---|---|---|\n")
	for _, r := range Rules() {
		var by []string
		for _, m := range r.Methods {
			if !strings.Contains(m, " ") {
				m = m[strings.LastIndexByte(m, '/')+1:]
			}
			by = append(by, "`"+strings.Replace(m, "WS ", "WebSocket ", 1)+"`")
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Verb, who(r), strings.Join(by, ", "))
	}
	return b.String()
}

// who is the least that a rule takes. An operator may what a client may.
func who(r Rule) string {
	switch {
	case r.Open():
		return "no token"
	case r.Least != "":
		return string(r.Least)
	}
	var kinds []string
	for _, k := range r.Kinds {
		kinds = append(kinds, string(k))
	}
	return strings.Join(kinds, ", ")
}
