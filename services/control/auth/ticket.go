package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

const (
	// TicketLife is how long a ticket may be used.
	TicketLife = 30 * time.Second
	// standInLife is how long what a ticket was exchanged for works without being shown: whoever watches it shows it
	// more often.
	standInLife = 12 * fresh
	// maxStandIns bounds how many are remembered.
	maxStandIns = 100_000
)

var (
	errStandIns = errs.New(errs.ResourceExhausted, "TOO_MANY_SOCKETS", "this server has as many sockets that came "+
		"with tickets as it may have; try again later")
	errTicketFor = errs.New(errs.FailedPrecondition, "TICKET_REFUSED", "a ticket stands for a token that is stored, "+
		"and this caller has shown none")
	errTicketTenant = errs.New(errs.FailedPrecondition, "TICKET_REFUSED", "a ticket is for the tenant of its token, "+
		"and a browser's socket cannot name another one: leave the header "+TenantHeader+" out, or use a token of "+
		"the tenant")
	// ErrTicket refuses a ticket.
	ErrTicket = errs.New(errs.Unauthenticated, "TICKET_INVALID", "this ticket is no ticket, was used, or has expired: "+
		"make a new one, with POST /v1/tickets")
)

// standIn is a secret that stands for a token, in this process.
type standIn struct {
	token [sha256.Size]byte // the hash of the token's
	until time.Time
}

// Ticket makes a secret that stands for the principal's token, works once, at any replica, and within TicketLife. It is
// for browsers, whose sockets can carry nothing but a URL.
func (s *Service) Ticket(ctx context.Context, p Principal) (secret string, err error) {
	if len(p.hash) == 0 {
		return "", errTicketFor
	}
	if p.named {
		return "", errTicketTenant
	}
	secret = newSecret(ticket)
	hash := sha256.Sum256([]byte(secret))
	made := Ticket{Hash: hash[:], Tenant: p.Tenant, TokenHash: p.hash}
	if err := s.store.CreateTicket(ctx, made, TicketLife); err != nil {
		return "", fmt.Errorf("storing the ticket: %w", err)
	}
	return secret, nil
}

// Redeem uses up a ticket and returns a secret that stands for its token in this process: it authenticates as the token
// does, and ends with it, or when nobody has shown it for a minute. Fails with ErrTicket, or ErrTooManyFailures.
func (s *Service) Redeem(ctx context.Context, secret string) (string, error) {
	if letter, err := formOf(secret); err != nil || letter != ticket {
		return "", ErrTicket
	}
	if err := s.failures.check(sourceOf(ctx)); err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(secret))
	token, err := s.store.UseTicket(ctx, hash[:])
	switch {
	case errors.Is(err, ErrTicket):
		s.failures.count(sourceOf(ctx))
		return "", ErrTicket
	case err != nil:
		return "", fmt.Errorf("using a ticket: %w", err)
	}
	stands := newSecret(ticket)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.forgetStandIns(now); len(s.standIns) >= maxStandIns {
		return "", errStandIns
	}
	s.standIns[sha256.Sum256([]byte(stands))] = &standIn{[sha256.Size]byte(token), now.Add(standInLife)}
	return stands, nil
}

// forgetStandIns forgets those that have ended, when there are many.
func (s *Service) forgetStandIns(now time.Time) {
	if len(s.standIns) < s.standInsAt {
		return
	}
	for hash, one := range s.standIns {
		if now.After(one.until) {
			delete(s.standIns, hash)
		}
	}
	s.standInsAt = min(max(minStandIns, 2*len(s.standIns)), maxStandIns)
}

// minStandIns is how many stand-ins are remembered before any is looked at.
const minStandIns = 1024

// meant is the hash of the token that a secret means, which is its own but for that of a stand-in.
func (s *Service) meant(hash [sha256.Size]byte) [sha256.Size]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, now := s.standIns[hash], time.Now()
	if one == nil || now.After(one.until) {
		return hash
	}
	one.until = now.Add(standInLife)
	return one.token
}
