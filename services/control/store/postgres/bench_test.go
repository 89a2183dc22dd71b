package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// prompt is what a prompt without tools costs: an admission that takes the lane, and one commit with the answer.
func prompt(ctx context.Context, s *postgres.Store, owner string, key session.Key) error {
	text := func(role model.Role, text string) model.Message {
		return model.Message{Role: role, Content: []model.Block{{Type: model.TextBlock, Text: text}}}
	}
	input, _ := json.Marshal(text(model.User, "hi"))
	got, err := s.Admit(ctx, submission.Admission{
		ID: ident.New(), Key: key, Input: input, InputHash: []byte("hash"), AgentDigest: "digest",
		Owner: owner, Timeout: time.Minute,
	})
	if err != nil {
		return err
	}
	if got.Lease == nil {
		return fmt.Errorf("the lane of %v was not taken", key)
	}
	l, root := got.Lease, got.Lease.Root()
	_, err = s.Commit(ctx, lane.Commit{
		Fence: l.Fence, ID: ident.New(), EventHead: l.EventHead, Continue: true,
		Steps: []lane.Step{{
			LoopID: root.ID, SessionID: root.SessionID, EntryHead: root.EntryHead,
			Entries: []session.Entry{{
				Seq: root.EntryHead + 1, SubmissionID: root.ID, Kind: session.Assistant,
				Message: text(model.Assistant, "hello"),
			}},
			Events: []event.Event{
				{
					Seq: l.EventHead + 1, Time: time.Now(), SubmissionID: root.ID, Type: event.EntryAdded,
					EntrySeq: root.EntryHead + 1,
				},
				{
					Seq: l.EventHead + 2, Time: time.Now(), SubmissionID: root.ID, Type: event.Settled,
					Settlement: &event.Settlement{Outcome: "completed", EntrySeq: root.EntryHead + 1},
				},
			},
			End: &lane.Settlement{
				Outcome: lane.Completed, Model: "m", Usage: model.Usage{Input: 10, Output: 5},
				ResultEntry: root.EntryHead + 1,
			},
		}},
	})
	return err
}

// BenchmarkPrompt counts pairs of Admit and Commit. PAWL_BENCH_POSTGRES names a server that keeps its promises.
func BenchmarkPrompt(b *testing.B) {
	for _, mode := range []string{"new", "same"} {
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("sessions=%s/clients=%d", mode, clients), func(b *testing.B) {
				s := open(b, benchURL(b), postgres.Options{})
				owner := ident.New()
				run := func(n int) {
					var wg sync.WaitGroup
					var done atomic.Int64
					for c := range clients {
						wg.Go(func() {
							for i := done.Add(1); i <= int64(n); i = done.Add(1) {
								name := fmt.Sprint(c)
								if mode == "new" {
									name = ident.New()
								}
								if err := prompt(b.Context(), s, owner,
									session.Key{Tenant: "default", Agent: "a", Instance: "i", Name: name}); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					wg.Wait()
				}
				run(2 * clients)
				b.ResetTimer()
				run(b.N)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
			})
		}
	}
}

func benchURL(b *testing.B) string {
	if address := os.Getenv("PAWL_BENCH_POSTGRES"); address != "" {
		return address
	}
	return migrated.URL(b)
}
