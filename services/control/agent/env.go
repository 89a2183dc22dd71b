package agent

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Lookup finds a variable of the control plane's environment, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// Env is the variables that an agent adds to its sandbox, unexpanded: ${NAME} in a value stands for a variable of the control
// plane, $${ for a literal ${. A literal value is no secret: it is part of the definition.
type Env map[string]string

// Values is an expanded Env. It holds its content in closures, so that no formatter, logger or encoder can print it.
type Values struct {
	vars    func() map[string]string
	secrets func() []string
}

// Expand resolves the references. ErrVariable names every variable that is not set.
func (e Env) Expand(lookup Lookup) (Values, error) {
	vars := make(map[string]string, len(e))
	secrets := map[string]bool{}
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(e)) {
		parts, err := template(e[key])
		if err != nil {
			return Values{}, ErrInvalid.With("env.%s: %v", key, err)
		}
		var b strings.Builder
		secret := false
		for _, p := range parts {
			if !p.ref {
				b.WriteString(p.text)
				continue
			}
			value, ok := lookup(p.text)
			if !ok {
				missing = append(missing, fmt.Sprintf("env.%s: variable %s is not set", key, p.text))
			}
			b.WriteString(value)
			if value != "" && !slices.Contains(plain, p.text) {
				secret = true
				secrets[value] = true
			}
		}
		vars[key] = b.String()
		if secret {
			secrets[vars[key]] = true
		}
	}
	if len(missing) > 0 {
		return Values{}, ErrVariable.With("%s", strings.Join(missing, "; "))
	}
	list := slices.Sorted(maps.Keys(secrets))
	return Values{
		vars:    func() map[string]string { return maps.Clone(vars) },
		secrets: func() []string { return slices.Clone(list) },
	}, nil
}

// Map is a copy of the variables, for the sandbox only.
func (v Values) Map() map[string]string {
	if v.vars == nil {
		return nil
	}
	return v.vars()
}

// Secrets are the strings that must be redacted wherever text of the sandbox is kept or shown: what the references stood for,
// and the values made of them.
func (v Values) Secrets() []string {
	if v.secrets == nil {
		return nil
	}
	return v.secrets()
}

// plain are the variables that every sandbox sees anyway. They are no secrets, and redacting them would hide every path.
var plain = []string{
	"PATH", "HOME", "USER", "LOGNAME", "HOSTNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "TMP", "TEMP",
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// part is literal text, or the name of a variable.
type part struct {
	text string
	ref  bool
}

// template takes a value apart.
func template(value string) ([]part, error) {
	var parts []part
	for value != "" {
		i := strings.Index(value, "${")
		if i < 0 {
			return append(parts, part{text: value}), nil
		}
		if i > 0 && value[i-1] == '$' {
			parts = append(parts, part{text: value[:i-1] + "${"})
			value = value[i+2:]
			continue
		}
		name, rest, closed := strings.Cut(value[i+2:], "}")
		if !closed || !variable.MatchString(name) {
			return nil, fmt.Errorf("${ must be followed by the name of a variable and }; write $${ for a literal ${")
		}
		if i > 0 {
			parts = append(parts, part{text: value[:i]})
		}
		parts = append(parts, part{text: name, ref: true})
		value = rest
	}
	return parts, nil
}
