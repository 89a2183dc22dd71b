package model

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxWords is how much of what a provider says is shown, in bytes.
const MaxWords = 2 << 10

// minSecret is the length from which a configured value is a secret: a header such as "X-Mode: a" must not blank every
// a.
const minSecret = 6

// Redactor removes the secrets of an endpoint from what its provider says. The zero value knows no secrets.
type Redactor struct{ secrets []string }

// NewRedactor knows the key, the headers and the query of e, as they are and as they stand in a URL.
func NewRedactor(e Endpoint) Redactor {
	all := []Secret{e.Key}
	for _, v := range e.Query {
		all = append(all, v)
	}
	for _, v := range e.Headers {
		all = append(all, v)
		if _, token, ok := strings.Cut(v.Reveal(), " "); ok { // Bearer …
			all = append(all, Secret(token))
		}
	}
	return Redactor{}.With(all...)
}

// With is a Redactor that knows these secrets too.
func (r Redactor) With(more ...Secret) Redactor {
	r.secrets = slices.Clone(r.secrets)
	for _, s := range more {
		for _, form := range []string{s.Reveal(), url.QueryEscape(s.Reveal()), url.PathEscape(s.Reveal())} {
			if len(form) >= minSecret && !slices.Contains(r.secrets, form) {
				r.secrets = append(r.secrets, form)
			}
		}
	}
	// A secret that is part of another one is replaced after it, so that nothing of the longer one stays.
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	return r
}

// minPart is the length from which the beginning of a secret is hidden where a text was cut.
const minPart = 4

// Excerpt is the beginning of b, about most bytes, without secrets. Of a secret that the cut went through nothing
// stays.
func (r Redactor) Excerpt(b []byte, most int) []byte {
	s := string(b[:min(len(b), most)])
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, redacted)
	}
	s = strings.TrimRight(s, " \r\n")
	for _, secret := range r.secrets {
		for n := min(len(secret)-1, len(s)); n >= minPart; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				return []byte(s[:len(s)-n] + redacted)
			}
		}
	}
	return []byte(s)
}

// Clean is s as one line that may be shown: without secrets and control characters, and at most MaxWords long.
func (r Redactor) Clean(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, redacted)
	}
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(strings.TrimSpace(s), string(utf8.RuneError)))
	const more = "…"
	if len(s) > MaxWords {
		s = strings.ToValidUTF8(s[:MaxWords-len(more)], "") + more
	}
	return s
}
