// Package ident makes ids and checks the names that callers choose. Edges call it, so that everything behind them can
// trust names.
package ident

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrInvalid refuses a name; its text says the rule.
var ErrInvalid = errs.New(errs.InvalidArgument, "INVALID_NAME", "the name is not allowed")

// New returns a UUIDv7: unique, and in order of time.
func New() string { return uuid.Must(uuid.NewV7()).String() }

// IsUUID reports whether s is a UUID in its canonical form: lowercase, with hyphens, so that equal ids are equal
// strings.
func IsUUID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

var (
	agentName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	executorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	tenantName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	labelKey     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
)

// CheckAgent checks the name of an agent.
func CheckAgent(s string) error {
	if !agentName.MatchString(s) {
		return ErrInvalid.With("an agent's name begins with a letter and has at most 64 letters, digits, - and _")
	}
	return nil
}

// CheckTenant checks the name of a tenant.
func CheckTenant(s string) error {
	if !tenantName.MatchString(s) {
		return ErrInvalid.With("a tenant's name begins with a letter and has at most 63 lowercase letters, " +
			"digits and -")
	}
	return nil
}

// CheckInstance checks the id of an instance.
func CheckInstance(s string) error { return CheckText("an instance id", s, 512) }

// RewoundPrefix begins the names of sessions that have lost theirs to a fork.
const RewoundPrefix = "rewound:"

// CheckSession checks the name of a session that a client prompts. The conversations of sub-agents, which are named
// PARENT/task:CALL, are not among them, nor are sessions that were rewound.
func CheckSession(s string) error {
	switch {
	case strings.HasPrefix(s, RewoundPrefix):
		return ErrInvalid.With("session names beginning with " + RewoundPrefix + " are reserved for sessions that " +
			"were rewound: name the one that has taken the place, or use the id")
	case strings.HasPrefix(s, "task:"):
		return ErrInvalid.With("session names beginning with task: are reserved for delegated tasks")
	case strings.Contains(s, "/task:"):
		return ErrInvalid.With("session names with /task: in them are reserved for delegated tasks: prompt the " +
			"session whose agent asked for the task")
	}
	return CheckText("a session name", s, 256)
}

// CheckExecutor checks the id of an executor.
func CheckExecutor(s string) error {
	if !executorName.MatchString(s) {
		return ErrInvalid.With("an executor's id begins with a letter or digit and has at most 64 letters, digits, . " +
			"- and _")
	}
	return nil
}

// CheckLabel checks a label of an executor.
func CheckLabel(key, value string) error {
	if !labelKey.MatchString(key) {
		return ErrInvalid.With("a label's key begins with a letter or digit and has at most 63 letters, digits, . _ " +
			"/ and -")
	}
	return CheckText("the value of label "+key, value, 256)
}

// CheckIdempotencyKey checks an idempotency key.
func CheckIdempotencyKey(s string) error { return CheckText("an idempotency key", s, 255) }

// CheckText checks a text that a person reads and a database keeps: not blank, at most so many bytes, no control
// characters. Databases differ in what they refuse; this refuses it for all of them. what names it in the error.
func CheckText(what, s string, most int) error {
	switch {
	case strings.TrimSpace(s) == "":
		return ErrInvalid.With("%s must not be blank", what)
	case len(s) > most:
		return ErrInvalid.With("%s has at most %d bytes", what, most)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, control):
		return ErrInvalid.With("%s must be UTF-8 text without control characters", what)
	}
	return nil
}

// control reports whether r is for machines, or turns the direction of what follows: then a name reads as another one.
func control(r rune) bool {
	return unicode.IsControl(r) || '\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}
