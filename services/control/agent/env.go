package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/hostenv"
	"github.com/pawl-dev/pawl/services/control/document"
)

// Lookup finds a variable of the control plane's environment, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// Env is the variables that an agent adds to its sandbox, unexpanded: ${NAME} in a value stands for a variable of the
// control plane, $${ for a literal ${. A literal value is no secret: it is part of the definition. nil takes a variable
// away that the sandbox has by default.
type Env map[string]*string

// Values is an expanded Env. It holds its content in closures, so that no formatter, logger or encoder can print it.
type Values struct {
	vars    func() map[string]*string
	secrets func() []string
}

// Expand resolves the references. ErrVariable names every variable that is not set.
func (e Env) Expand(lookup Lookup) (Values, error) {
	if len(e) == 0 {
		return Values{}, nil
	}
	vars := make(map[string]*string, len(e))
	secrets := map[string]bool{}
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(e)) {
		if e[key] == nil {
			vars[key] = nil
			continue
		}
		t, err := document.ParseTemplate(*e[key])
		if err != nil {
			return Values{}, ErrInvalid.With("env.%s: %v", key, err)
		}
		secret := false
		for _, name := range t.Names() {
			value, ok := lookup(name)
			if !ok {
				missing = append(missing, fmt.Sprintf("env.%s: variable %s is not set", key, name))
			}
			// What every sandbox sees anyway is no secret, and redacting it would hide every path.
			if value != "" && !slices.Contains(hostenv.Names, name) {
				secret = true
				secrets[value] = true
			}
		}
		value := t.Expand(lookup)
		vars[key] = &value
		if secret {
			secrets[value] = true
		}
	}
	if len(missing) > 0 {
		return Values{}, ErrVariable.With("%s", strings.Join(missing, "; "))
	}
	list := slices.Sorted(maps.Keys(secrets))
	return Values{
		vars:    func() map[string]*string { return maps.Clone(vars) },
		secrets: func() []string { return slices.Clone(list) },
	}, nil
}

// Map is a copy of the variables, for the sandbox only. nil takes a variable away.
func (v Values) Map() map[string]*string {
	if v.vars == nil {
		return nil
	}
	return v.vars()
}

// Secrets are the strings that must be redacted wherever text of the sandbox is kept or shown: what the references
// stood for, and the values made of them.
func (v Values) Secrets() []string {
	if v.secrets == nil {
		return nil
	}
	return v.secrets()
}
