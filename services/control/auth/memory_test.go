package auth

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// memory is a Store that also counts the lookups.
type memory struct {
	mu      sync.Mutex
	tokens  []Token
	tickets map[string]ticketRow
	secret  []byte
	lookups int
	ahead   time.Duration // that the store's clock is of this process's
	fail    error
}

// ticketRow is a ticket that lasts until then.
type ticketRow struct {
	Ticket
	until time.Time
}

func (m *memory) CreateTicket(_ context.Context, t Ticket, life time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tickets == nil {
		m.tickets = map[string]ticketRow{}
	}
	m.tickets[string(t.Hash)] = ticketRow{t, m.now().Add(life)}
	return m.fail
}

func (m *memory) UseTicket(_ context.Context, hash []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one, ok := m.tickets[string(hash)]
	delete(m.tickets, string(hash))
	if !ok || !one.until.After(m.now()) {
		return nil, ErrTicket
	}
	return one.TokenHash, m.fail
}

// now is the store's clock.
func (m *memory) now() time.Time { return time.Now().Add(m.ahead) }

func (m *memory) CreateToken(_ context.Context, t Token, life time.Duration) (Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.CreatedAt, t.Left = m.now(), life
	if life > 0 {
		t.ExpiresAt = m.now().Add(life)
	}
	m.tokens = append(m.tokens, t)
	return t, m.fail
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
			t.Left = t.ExpiresAt.Sub(m.now())
			return t, nil
		}
	}
	return Token{}, ErrTokenNotFound
}

func (m *memory) GetToken(_ context.Context, tenant, id string) (Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tokens {
		if t.ID == id && (tenant == "" || t.Tenant == tenant) {
			return t, m.fail
		}
	}
	return Token{}, ErrTokenNotFound
}

func (m *memory) ListTokens(_ context.Context, tenant, _ string, _ int) ([]Token, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(m.tokens), func(t Token) bool { return tenant != "" && t.Tenant != tenant })
	slices.Reverse(list)
	return list, "", nil
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

func (m *memory) ExtendToken(_ context.Context, id string, life time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.tokens {
		if m.tokens[i].ID == id {
			m.tokens[i].ExpiresAt = m.now().Add(life)
			return nil
		}
	}
	return ErrTokenNotFound
}

func (m *memory) GetTenant(_ context.Context, name string) (tenancy.Tenant, error) {
	if name != "default" && name != "acme" {
		return tenancy.Tenant{}, tenancy.ErrNotFound
	}
	return tenancy.Tenant{Name: name}, nil
}
