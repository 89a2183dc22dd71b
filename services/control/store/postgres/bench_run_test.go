package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// noopRun is what a run that does nothing costs: a start that takes the lane, and one commit that ends it.
func noopRun(ctx context.Context, s *postgres.Store, n run.Start) error {
	n.ID, n.SubmissionID, n.Tenant = ident.New(), ident.New(), session.DefaultTenant
	n.Workflow, n.Digest, n.Input, n.InputHash = "w", "digest", json.RawMessage(`{"a": 1}`), []byte("hash")
	got, err := s.StartRun(ctx, n)
	if err != nil {
		return err
	}
	if got.Lease == nil {
		return fmt.Errorf("run %s was not taken", n.ID)
	}
	l := got.Lease
	_, err = s.Commit(ctx, lane.Commit{
		Fence: l.Fence, Kind: lane.KindRun, ID: ident.New(), EventHead: l.EventHead,
		Steps: []lane.Step{{
			LoopID: n.SubmissionID, SessionID: n.ID,
			Events: []event.Event{{
				Seq: l.EventHead + 1, Time: time.Now(), SubmissionID: n.SubmissionID, Type: event.Settled,
				Settlement: &event.Settlement{Outcome: "completed"},
			}},
			End: &lane.Settlement{Outcome: lane.Completed, Data: json.RawMessage(`{"b": 2}`)},
		}},
	})
	return err
}

// BenchmarkRun counts pairs of StartRun and Commit. See BenchmarkPrompt.
func BenchmarkRun(b *testing.B) {
	for what, start := range map[string]func(client int) run.Start{
		"plain":  func(int) run.Start { return run.Start{} },
		"unique": func(int) run.Start { return run.Start{IdempotencyKey: ident.New()} },
		"keyed":  func(c int) run.Start { return run.Start{Gate: &run.Gate{Key: fmt.Sprint(c), Limit: 1}} },
	} {
		for _, clients := range []int{1, 16} {
			b.Run(fmt.Sprintf("runs=%s/clients=%d", what, clients), func(b *testing.B) {
				s := open(b, benchURL(b), postgres.Options{})
				owner := ident.New()
				many := func(n int) {
					var wg sync.WaitGroup
					var done atomic.Int64
					for c := range clients {
						wg.Go(func() {
							for i := done.Add(1); i <= int64(n); i = done.Add(1) {
								one := start(c)
								one.Owner = owner
								if err := noopRun(b.Context(), s, one); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					wg.Wait()
				}
				many(2 * clients)
				b.ResetTimer()
				many(b.N)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
			})
		}
	}
}
