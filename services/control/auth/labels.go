package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
)

// ErrLabels refuses an executor that claims a label which its token does not allow.
var ErrLabels = errs.New(errs.PermissionDenied, "LABELS_REFUSED", "the token does not allow these labels")

// maxLabels bounds how many labels a token allows: more than an executor may have.
const maxLabels = 64

// Labels are the labels that a token allows an executor to claim, by key. A value is exact, or a pattern in which *
// stands for any characters. Agents choose executors by labels and send them their secrets, so that a label which is
// not here may not be claimed.
type Labels map[string]string

// Allow fails with ErrLabels, which names what is allowed, if a label is claimed that is not.
func (l Labels) Allow(claimed map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(claimed)) {
		pattern, known := l[key]
		if known && glob(pattern, claimed[key]) {
			continue
		}
		return ErrLabels.With("the token does not allow the label %s=%s; it allows %s: start the executor without "+
			"that label, or "+
			"give it a token made with `control token create --executor NAME --allow-label %s=%s`",
			key, claimed[key], l, key, claimed[key])
	}
	return nil
}

// String lists what is allowed, for people.
func (l Labels) String() string {
	if len(l) == 0 {
		return "no labels"
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(l)) {
		all = append(all, key+"="+l[key])
	}
	return strings.Join(all, ", ")
}

func (l Labels) check() error {
	if len(l) > maxLabels {
		return ErrTokenInvalid.With("a token allows at most %d labels", maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(l)) {
		if err := ident.CheckLabel(key, l[key]); err != nil {
			return fmt.Errorf("an allowed label: %w", err)
		}
	}
	return nil
}

// glob reports whether text matches a pattern in which * stands for any characters.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}
