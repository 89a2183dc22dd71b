package control

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/replica"
)

// leases is a database that takes a lease and answers nothing afterwards.
type leases struct{ replica.Store }

func (leases) RegisterReplica(context.Context, replica.Replica, time.Duration) ([]string, error) {
	return nil, nil
}

func (leases) RenewReplica(context.Context, string, time.Duration) (bool, error) {
	return false, errors.New("the database is away")
}

// A replica whose lease still lasts should get no requests once its database is silent.
func TestUnreadyWhileTheLeaseLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		p := &plane{draining: t.Context()}
		p.replicas = replica.NewService(leases{}, replica.Replica{}, mono.New(), log)
		go func() {
			_ = p.replicas.Run(t.Context(), t.Context(), func(ctx context.Context, _ string, _ []string) error {
				p.leased.Store(true)
				<-ctx.Done()
				return nil
			})
		}()
		time.Sleep(time.Second)
		if got := p.unready(); len(got) > 0 {
			t.Errorf("a second after the start: %q", got)
		}
		time.Sleep(6 * time.Second)
		if got := p.unready(); !slices.Equal(got, []string{gateway.DatabaseSilent}) {
			t.Errorf("three seconds after a renewal without an answer: %q", got)
		}
	})
}
