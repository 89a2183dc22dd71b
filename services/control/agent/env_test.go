package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func lookupIn(vars map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestExpand(t *testing.T) {
	host := lookupIn(map[string]string{"TOKEN": "hunter2hunter2", "HOME": "/home/me", "EMPTY": "", "A": "1"})
	for name, c := range map[string]struct {
		value, want string
		secrets     []string
	}{
		"literal":   {"true", "true", nil},
		"reference": {"${TOKEN}", "hunter2hunter2", []string{"hunter2hunter2"}},
		"within text": {
			"Bearer ${TOKEN}!", "Bearer hunter2hunter2!",
			[]string{"Bearer hunter2hunter2!", "hunter2hunter2"},
		},
		"two":             {"${A}${TOKEN}", "1hunter2hunter2", []string{"1", "1hunter2hunter2", "hunter2hunter2"}},
		"escaped":         {"a$${TOKEN}b", "a${TOKEN}b", nil},
		"escaped, then":   {"$${X}${A}", "${X}1", []string{"${X}1", "1"}},
		"bare dollar":     {"$TOKEN $5 $", "$TOKEN $5 $", nil},
		"set but empty":   {"${EMPTY}", "", nil},
		"seen by all":     {"${HOME}/cache", "/home/me/cache", nil},
		"seen and secret": {"${HOME}:${A}", "/home/me:1", []string{"/home/me:1", "1"}},
		"empty":           {"", "", nil},
		"values are text": {"${TOKEN}${EMPTY}${EMPTY}", "hunter2hunter2", []string{"hunter2hunter2"}},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Env{"K": new(c.value)}.Expand(host)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Map(); !reflect.DeepEqual(got, map[string]*string{"K": new(c.want)}) {
				t.Errorf("got %v", got)
			}
			if got := v.Secrets(); len(got) != len(c.secrets) || len(got) > 0 && !reflect.DeepEqual(got, c.secrets) {
				t.Errorf("secrets %q, want %q", got, c.secrets)
			}
		})
	}
}

// A name with no value is one that the sandbox is to do without.
func TestExpandKeepsWhatIsTakenAway(t *testing.T) {
	v, err := Env{"PAGER": nil, "A": new("b")}.Expand(lookupIn(nil))
	if got := v.Map(); err != nil || !reflect.DeepEqual(got, map[string]*string{"PAGER": nil, "A": new("b")}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestExpandDoesNotExpandWhatItInserted(t *testing.T) {
	v, err := Env{"K": new("${A}")}.Expand(lookupIn(map[string]string{"A": "${B}", "B": "no"}))
	if err != nil || *v.Map()["K"] != "${B}" {
		t.Errorf("got %v, %v", v.Map(), err)
	}
}

func TestExpandNamesEveryMissingVariable(t *testing.T) {
	v, err := Env{"B": new("${Y}"), "A": new("${X}"), "C": new("c")}.Expand(lookupIn(nil))
	if !errors.Is(err, ErrVariable) || err.Error() != "env.A: variable X is not set; env.B: variable Y is not set" {
		t.Errorf("got %v", err)
	}
	if v.Map() != nil || v.Secrets() != nil {
		t.Error("values beside an error")
	}
}

func TestExpandRefusesBadReferences(t *testing.T) {
	if _, err := (Env{"A": new("${")}).Expand(lookupIn(nil)); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestValuesCannotBePrinted(t *testing.T) {
	const secret = "hunter2hunter2"
	v, err := Env{"K": new("${T}")}.Expand(lookupIn(map[string]string{"T": secret}))
	if err != nil {
		t.Fatal(err)
	}
	nested := struct{ values Values }{v}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v, "n", nested)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v, "n", nested)
	//lint:ignore SA9005 that nothing of it can be marshalled is what is shown
	raw, _ := json.Marshal(v)
	for _, s := range []string{
		fmt.Sprint(v), formatted(v), fmt.Sprintf("%+v %#v", nested, nested), log.String(), string(raw),
	} {
		if strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) {
			t.Errorf("printed: %s", s)
		}
	}
}

// formatted prints v with every verb; vet would refuse some of them.
func formatted(v any) string {
	out := ""
	for _, verb := range []string{"%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		out += fmt.Sprintf(verb, v)
	}
	return out
}

func TestValuesAreCopies(t *testing.T) {
	v, err := Env{"K": new("${T}")}.Expand(lookupIn(map[string]string{"T": "secret"}))
	if err != nil {
		t.Fatal(err)
	}
	v.Map()["K"] = nil
	v.Secrets()[0] = "x"
	if *v.Map()["K"] != "secret" || v.Secrets()[0] != "secret" {
		t.Error("a caller's change came through")
	}
}

func TestDefinitionKeepsEnvOutOfLogs(t *testing.T) {
	d := Shell()
	d.Env = Env{"K": new("literal-value")}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "agent", d)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "agent", d)
	for _, s := range []string{log.String(), fmt.Sprintf("%v %+v %s", d, d, d)} {
		if strings.Contains(s, "literal-value") || !strings.Contains(s, "agent shell@"+d.Digest()[:12]) {
			t.Errorf("got %s", s)
		}
	}
}
