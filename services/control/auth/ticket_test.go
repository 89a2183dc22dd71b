package auth

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A ticket is used once, at whichever replica, within its life, and nothing but Redeem takes it.
func TestTicketsAreUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		here, there := NewService(store), NewService(store)
		secret, made, err := here.Mint(t.Context(), Token{Kind: Client, Role: Viewer}, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := here.Authenticate(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
		issue := func() string {
			got, err := here.Ticket(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		one := issue()
		if _, err := here.Authenticate(t.Context(), one); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("a ticket is a token: %v", err)
		}
		stands, err := there.Redeem(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		got, err := there.Authenticate(t.Context(), stands)
		if err != nil || got.TokenID != made.ID || got.Role != Viewer {
			t.Errorf("%+v, %v", got, err)
		}
		for _, s := range []*Service{here, there} {
			if _, err := s.Redeem(t.Context(), one); !errors.Is(err, ErrTicket) {
				t.Errorf("used twice: %v", err)
			}
		}
		if _, err := here.Authenticate(t.Context(), stands); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("what a ticket was exchanged for works elsewhere: %v", err)
		}
		late := issue()
		time.Sleep(TicketLife)
		if _, err := here.Redeem(t.Context(), late); !errors.Is(err, ErrTicket) {
			t.Errorf("late: %v", err)
		}
		for _, no := range []string{"", secret, newSecret(ticket), stands} {
			if _, err := here.Redeem(t.Context(), no); !errors.Is(err, ErrTicket) {
				t.Errorf("%q: %v", no, err)
			}
		}
		// It lives while it is shown, and ends with its token.
		for range 20 {
			time.Sleep(fresh)
			if _, err := there.Authenticate(t.Context(), stands); err != nil {
				t.Fatal(err)
			}
		}
		if err := here.Revoke(t.Context(), Principal{Kind: Operator}, made.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * fresh)
		if _, err := there.Authenticate(t.Context(), stands); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("after its token: %v", err)
		}
	})
}

func TestStandInsThatNobodyShowsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(&memory{})
		secret, _, err := s.Mint(t.Context(), Token{Kind: Client}, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Authenticate(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
		var last string
		for range 4 * minStandIns {
			one, err := s.Ticket(t.Context(), p)
			if err == nil {
				last, err = s.Redeem(t.Context(), one)
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(standInLife / 100)
		}
		if n := len(s.standIns); n > 2*minStandIns {
			t.Errorf("%d are remembered", n)
		}
		time.Sleep(standInLife + 1)
		if _, err := s.Authenticate(t.Context(), last); !errors.Is(err, ErrUnauthenticated) {
			t.Error(err)
		}
	})
}

// What is in no store, as the secret of the built-in executor, gets no ticket.
func TestTicketsStandForStoredTokens(t *testing.T) {
	s := NewService(&memory{})
	if _, err := s.Ticket(t.Context(), Principal{Kind: Operator}); !errors.Is(err, errTicketFor) {
		t.Error(err)
	}
}

// A ticket says nothing of a tenant that its maker has named: a socket that came with it would be about another one.
func TestTicketsAreForTheTokensTenant(t *testing.T) {
	s := NewService(&memory{})
	secret, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Authenticate(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.As(t.Context(), p, p.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ticket(t.Context(), own); err != nil {
		t.Error(err)
	}
	other, err := s.As(t.Context(), p, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ticket(t.Context(), other); !errors.Is(err, errTicketTenant) {
		t.Errorf("for a tenant that was named: %v", err)
	}
}
