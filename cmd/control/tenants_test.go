package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// A tenant is deleted for whoever types its name, or says --yes, and for nobody else.
func TestTenantsAreDeletedByCommand(t *testing.T) {
	data := t.TempDir()
	start(t, data)
	answer := func(name, typed string, more ...string) (string, error) {
		var out bytes.Buffer
		c := command()
		c.SetArgs(append([]string{"tenants", "delete", name, "--data", data}, more...))
		c.SetIn(strings.NewReader(typed))
		c.SetOut(&out)
		c.SetErr(&out)
		err := cli.Execute(t.Context(), c)
		return out.String(), err
	}
	for _, name := range []string{"acme", "zoo"} {
		if _, _, err := invoke(t, "tenants", "create", "--data", data, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, typed := range []string{"", "yes\n", "zoo\n"} {
		if told, err := answer("acme", typed); cli.Code(err) != cli.Usage ||
			!strings.Contains(told, "nothing is deleted") {
			t.Errorf("%q: %v, %s", typed, err, told)
		}
	}
	list, _, err := invoke(t, "tenants", "list", "--data", data)
	if err != nil || !regexp.MustCompile(`(?m)^acme +\S+ \S+ +- +-$`).MatchString(list) {
		t.Errorf("%v, %s", err, list)
	}
	for name, how := range map[string][]string{"acme": {"acme\n"}, "zoo": {"", "--yes"}} {
		told, err := answer(name, how[0], how[1:]...)
		if err != nil || !strings.Contains(told, "tenant "+name+" is ") {
			t.Errorf("%s: %v, %s", name, err, told)
		}
	}
	list, _, err = invoke(t, "tenants", "list", "--data", data)
	if err != nil || !regexp.MustCompile(`(?m)^acme +\S+ \S+ +\S+ \S+ +(under way|\S+ \S+)$`).MatchString(list) {
		t.Errorf("%v, %s", err, list)
	}
	if told, err := answer("default", "", "--yes"); err == nil || !strings.Contains(told, "can be neither") {
		t.Errorf("%v, %s", err, told)
	}
}
