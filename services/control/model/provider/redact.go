package provider

import (
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// maxText bounds what a provider may say in an error.
const maxText = 1000

// redactor removes an endpoint's secrets from what a provider says.
type redactor struct{ secrets []string }

// minSecret keeps a header such as "X-Mode: a" from blanking every a.
const minSecret = 6

func newRedactor(e model.Endpoint) redactor {
	var r redactor
	add := func(s string) {
		if len(s) >= minSecret {
			r.secrets = append(r.secrets, s)
		}
	}
	add(e.Key.Reveal())
	for _, v := range e.Headers {
		add(v.Reveal())
		if _, token, ok := strings.Cut(v.Reveal(), " "); ok { // Bearer …
			add(token)
		}
	}
	return r
}

// clean is s as it may be shown.
func (r redactor) clean(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, "[redacted]")
	}
	s = strings.ToValidUTF8(strings.TrimSpace(s), "�")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}
