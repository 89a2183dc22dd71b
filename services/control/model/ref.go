package model

import (
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrInvalidRef is a model's name that does not have the form "provider/model".
var ErrInvalidRef = errs.New(errs.InvalidArgument, "INVALID_MODEL",
	`a model is named as "provider/model", such as anthropic/claude-sonnet-4-6`)

// MaxRef bounds the name of a model.
const MaxRef = 200

// ParseRef reads "provider/model". Only the first slash divides: a model's id may contain others.
func ParseRef(s string) (Ref, error) {
	provider, id, ok := strings.Cut(s, "/")
	if !ok || id == "" || len(s) > MaxRef || !validProvider(provider) || strings.ContainsFunc(id, notPrintable) {
		return Ref{}, ErrInvalidRef.With(`%q does not name a model: write "provider/model", such as anthropic/claude-sonnet-4-6`, cut(s, MaxRef))
	}
	return Ref{Provider: provider, ID: id}, nil
}

// validProvider reports whether s is a name of lower-case letters, digits, dots, dashes and underscores.
func validProvider(s string) bool {
	for i, c := range s {
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func notPrintable(c rune) bool { return c <= ' ' || c == 0x7f }

// cut bounds a text from outside that goes into an error.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
