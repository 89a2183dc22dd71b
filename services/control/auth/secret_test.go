package auth

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// A typing error is told apart from a token that does not exist, without a look-up.
func TestSecretsHaveAForm(t *testing.T) {
	form := regexp.MustCompile(`^pawl_[ocept]_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$`)
	for _, letter := range []byte{'o', 'c', 'e', 'p', ticket} {
		secret := newSecret(letter)
		if got, err := formOf(secret); err != nil || got != letter || !form.MatchString(secret) {
			t.Errorf("%s: %c, %v", secret, got, err)
		}
		store := &memory{}
		s := NewService(store)
		for i := range secret {
			other := byte('x')
			if secret[i] == other {
				other = 'y'
			}
			typo := secret[:i] + string(other) + secret[i+1:]
			_, err := s.Authenticate(t.Context(), typo)
			if !errors.Is(err, ErrUnauthenticated) || i >= len("pawl_") && !strings.Contains(err.Error(), "not whole") {
				t.Errorf("%s: %v", typo, err)
			}
		}
		if store.lookups > 0 {
			t.Errorf("%d queries", store.lookups)
		}
	}
	if one := secretOf('p', [32]byte{}); len(one) != secretLen {
		t.Errorf("%q", one)
	}
}
