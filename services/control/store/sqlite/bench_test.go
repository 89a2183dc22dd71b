package sqlite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func benchStore(b *testing.B) *sqlite.Store {
	s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "pawl.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

var benchInput = json.RawMessage(`{"role":"user","content":[{"type":"text","text":"hi"}]}`)

// prompt is what one prompt costs the store: admission with an owner, then one commit with the answer, its events and the
// settlement.
func prompt(ctx context.Context, s *sqlite.Store, name, owner string) error {
	out, err := s.Admit(ctx, submission.Admission{
		ID: ident.New(), Key: session.Key{Tenant: session.DefaultTenant, Agent: "agent", Instance: "bench", Name: name},
		Input: benchInput, InputHash: make([]byte, 32), AgentDigest: "digest", Timeout: time.Hour, Owner: owner,
	})
	if err != nil {
		return err
	}
	if out.Lease == nil {
		return fmt.Errorf("no lease for %s", name)
	}
	l := out.Lease
	_, err = s.Commit(ctx, submission.Commit{
		Fence: l.Fence, SubmissionSeq: l.Submission.Seq, EntryHead: l.EntryHead, EventHead: l.EventHead,
		Entries: []session.Entry{{
			Seq: l.EntryHead + 1, SubmissionID: l.Submission.ID, Kind: session.Assistant, CreatedAt: time.Now(),
			Message: model.Message{
				Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: "hello"}}, Model: &model.Ref{Provider: "p", ID: "m"},
				Usage: &model.Usage{Input: 10, Output: 20}, Stop: model.StopEnd,
			},
		}},
		Events: []event.Event{
			{Seq: l.EventHead + 1, Time: time.Now(), SubmissionID: l.Submission.ID, Turn: 1, Type: event.EntryAdded, EntrySeq: l.EntryHead + 1},
			{Seq: l.EventHead + 2, Time: time.Now(), SubmissionID: l.Submission.ID, Turn: 1, Type: event.Settled, Settlement: &event.Settlement{
				Outcome: "completed", Model: "p/m", Usage: model.Usage{Input: 10, Output: 20}, EntrySeq: l.EntryHead + 1, Turn: 1,
			}},
		},
		Settle: &submission.Settlement{
			Outcome: submission.Completed, Model: "p/m", Usage: model.Usage{Input: 10, Output: 20}, ResultEntry: l.EntryHead + 1, Continue: true,
		},
	})
	return err
}

// BenchmarkPrompt measures prompts by clients that each wait for the answer, on new sessions and on one per client.
func BenchmarkPrompt(b *testing.B) {
	for _, sessions := range []string{"new", "same"} {
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("sessions=%s/clients=%d", sessions, clients), func(b *testing.B) {
				s, owner := benchStore(b), ident.New()
				var client, n atomic.Int64
				b.SetParallelism(clients / 2) // times GOMAXPROCS
				if clients == 1 {
					for b.Loop() {
						name := "one"
						if sessions == "new" {
							name = fmt.Sprint(n.Add(1))
						}
						if err := prompt(b.Context(), s, name, owner); err != nil {
							b.Fatal(err)
						}
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						name := fmt.Sprint("client", client.Add(1))
						for pb.Next() {
							if sessions == "new" {
								name = fmt.Sprint(n.Add(1))
							}
							if err := prompt(b.Context(), s, name, owner); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
			})
		}
	}
}
