package document

import (
	"errors"
	"strings"
)

// Template is text in which ${NAME} stands for a variable of control's environment, and $${ for a literal ${.
type Template []part

// part is literal text, or the name of a variable.
type part struct {
	text string
	ref  bool
}

var errReference = errors.New("${ must be followed by the name of a variable and }; write $${ for a literal ${")

// ParseTemplate takes a value apart. Its error does not repeat the value.
func ParseTemplate(value string) (Template, error) {
	var t Template
	for value != "" {
		i := strings.Index(value, "${")
		if i < 0 {
			return append(t, part{text: value}), nil
		}
		if i > 0 && value[i-1] == '$' {
			t = append(t, part{text: value[:i-1] + "${"})
			value = value[i+2:]
			continue
		}
		name, rest, closed := strings.Cut(value[i+2:], "}")
		if !closed || !Variable(name) {
			return nil, errReference
		}
		if i > 0 {
			t = append(t, part{text: value[:i]})
		}
		t = append(t, part{text: name, ref: true})
		value = rest
	}
	return t, nil
}

// Names are the variables that t refers to, in order.
func (t Template) Names() []string {
	var names []string
	for _, p := range t {
		if p.ref {
			names = append(names, p.text)
		}
	}
	return names
}

// Expand puts variables in place. One that is not set is empty.
func (t Template) Expand(lookup func(name string) (value string, ok bool)) string {
	var b strings.Builder
	for _, p := range t {
		if p.ref {
			p.text, _ = lookup(p.text)
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// Variable reports whether name can be a variable's: letters, digits and _, not beginning with a digit.
func Variable(name string) bool {
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
