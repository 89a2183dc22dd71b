package auth

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// memory is a Store that also counts the lookups.
type memory struct {
	mu      sync.Mutex
	tokens  []Token
	secret  []byte
	lookups int
	fail    error
}

func (m *memory) CreateToken(_ context.Context, t Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens = append(m.tokens, t)
	return m.fail
}

func (m *memory) FindToken(_ context.Context, hash []byte) (Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookups++
	if m.fail != nil {
		return Token{}, m.fail
	}
	for _, t := range m.tokens {
		if bytes.Equal(t.Hash, hash) {
			return t, nil
		}
	}
	return Token{}, ErrTokenNotFound
}

func (m *memory) ListTokens(_ context.Context, tenant string) ([]Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(m.tokens), func(t Token) bool { return t.Tenant != tenant })
	slices.Reverse(list)
	return list, nil
}

func (m *memory) RevokeToken(_ context.Context, tenant, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, t := range m.tokens {
		if t.ID == id && t.Tenant == tenant {
			m.tokens[i].RevokedAt = time.Now()
			return nil
		}
	}
	return ErrTokenNotFound
}

func (m *memory) ClusterSecret(_ context.Context, candidate []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.secret == nil {
		m.secret = candidate
	}
	return m.secret, nil
}

func (m *memory) ExtendToken(_ context.Context, id string, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.tokens {
		if m.tokens[i].ID == id {
			m.tokens[i].ExpiresAt = expires
			return nil
		}
	}
	return ErrTokenNotFound
}
