package agent

// Lookup finds a variable of the control plane's environment, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// Env is the variables that an agent adds to its sandbox, unexpanded: ${NAME} in a value stands for a variable of the control
// plane, $${ for a literal ${.
type Env map[string]string

// Values is an expanded Env. It holds its content in a closure, so that no formatter, logger or encoder can print it.
type Values struct {
	vars    func() map[string]string
	secrets func() []string
}

// Expand resolves the references. ErrVariable when one is not set.
func (e Env) Expand(lookup Lookup) (Values, error) { return Values{}, nil }

// Map is a copy of the variables, for the sandbox only.
func (v Values) Map() map[string]string { return nil }

// Secrets are the strings that must be redacted wherever text of the sandbox is kept or shown.
func (v Values) Secrets() []string { return nil }
