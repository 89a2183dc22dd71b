package sqlite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
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

// prompt is what one prompt costs the store: admission with an owner, then one commit with the answer, its events and
// the settlement.
func prompt(ctx context.Context, s *sqlite.Store, name, owner string) error {
	return turn(ctx, s, name, owner, "hello")
}

func turn(ctx context.Context, s *sqlite.Store, name, owner, answer string) error {
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
	usage, seq := model.Usage{Input: 10, Output: 20}, l.Root().EntryHead+1
	_, err = s.Commit(ctx, lane.Commit{
		Fence: l.Fence, ID: ident.New(), EventHead: l.EventHead, Continue: true,
		Steps: []lane.Step{{
			LoopID: l.Root().ID, SessionID: l.Root().SessionID, EntryHead: l.Root().EntryHead,
			Entries: []session.Entry{{
				Seq: seq, SubmissionID: l.Root().ID, Kind: session.Assistant, CreatedAt: time.Now(),
				Message: model.Message{
					Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: answer}},
					Model: &model.Ref{Provider: "p", ID: "m"}, Usage: &usage, Stop: model.StopEnd,
				},
			}},
			Events: []event.Event{
				{
					Seq: l.EventHead + 1, Time: time.Now(), SubmissionID: l.Root().ID, Turn: 1, Type: event.EntryAdded,
					EntrySeq: seq,
				},
				{
					Seq: l.EventHead + 2, Time: time.Now(), SubmissionID: l.Root().ID, Turn: 1, Type: event.Settled,
					Settlement: &event.Settlement{Outcome: "completed", Model: "p/m", Usage: usage, EntrySeq: seq, Turn: 1},
				},
			},
			Turn: &lane.Turn{
				Turn: 1, Model: "p/m", Request: make([]byte, 32), Prefix: make([]byte, 32), Usage: usage, Attempts: 1,
				Duration: time.Second, Stop: "stop",
			},
			End: &lane.Settlement{Outcome: lane.Completed, Model: "p/m", Usage: usage, ResultEntry: seq},
		}},
	})
	return err
}

// What a prompt writes to the disk does not grow unnoticed.
func TestPromptsWriteLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	owner := ident.New()
	const prompts = 50
	sizes := make([]int64, 2)
	for i := range sizes {
		for range prompts {
			if err := prompt(t.Context(), s, "one", owner); err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		sizes[i] = info.Size()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if per := (sizes[1] - sizes[0]) / prompts; per == 0 || per > 64_000 {
		t.Errorf("a prompt writes %d bytes", per)
	}
}

// BenchmarkFloor is one write of a page that reaches the disk: two of them are the least that a prompt costs one
// client.
func BenchmarkFloor(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is thrown away
	page := make([]byte, 4096)
	for b.Loop() {
		if _, err := f.WriteAt(page, int64(b.N%1000)*4096); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// fill admits to n new sessions, at the speed of group commit.
func fill(b *testing.B, s *sqlite.Store, n int) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(256)
	for i := range n {
		g.Go(func() error {
			_, err := s.Admit(b.Context(), submission.Admission{
				ID: ident.New(), Key: session.Key{
					Tenant: session.DefaultTenant, Agent: "agent", Instance: "queue",
					Name: fmt.Sprint(i),
				},
				Input: benchInput, AgentDigest: "digest",
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkClaim claims and releases one lane before many that wait: the cost must not grow with them.
func BenchmarkClaim(b *testing.B) {
	for _, queued := range []int{100, 50_000} {
		b.Run(fmt.Sprint("queued=", queued), func(b *testing.B) {
			s, owner := benchStore(b), ident.New()
			fill(b, s, queued)
			for b.Loop() {
				out, err := s.Claim(b.Context(), owner, lane.KindSession, 1)
				if err != nil || len(out.Leases) != 1 {
					b.Fatalf("%d leases, %v", len(out.Leases), err)
				}
				if err := s.Release(b.Context(), out.Leases[0].Fence, lane.Release{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHistory prompts a session that has a history: the cost must not grow with it.
func BenchmarkHistory(b *testing.B) {
	for _, prompts := range []int{0, 5000} {
		b.Run(fmt.Sprint("prompts=", prompts), func(b *testing.B) {
			s, owner := benchStore(b), ident.New()
			for range prompts {
				if err := prompt(b.Context(), s, "one", owner); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := prompt(b.Context(), s, "one", owner); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeltas appends text in commits of 20 deltas each to 16 sessions at once.
func BenchmarkDeltas(b *testing.B) {
	s, owner := benchStore(b), ident.New()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		out, err := s.Admit(b.Context(), submission.Admission{
			ID: ident.New(), Key: session.Key{
				Tenant: session.DefaultTenant, Agent: "agent", Instance: "deltas",
				Name: ident.New(),
			},
			Input: benchInput, AgentDigest: "digest", Owner: owner,
		})
		if err != nil {
			b.Error(err)
			return
		}
		l := out.Lease
		for pb.Next() {
			step := lane.Step{LoopID: l.Root().ID, SessionID: l.Root().SessionID, EntryHead: l.Root().EntryHead}
			c := lane.Commit{Fence: l.Fence, ID: ident.New(), EventHead: l.EventHead}
			for range 20 {
				l.EventHead++
				step.Events = append(step.Events, event.Event{
					Seq: l.EventHead, Time: time.Now(), SubmissionID: step.LoopID, Turn: 1, Type: event.Text,
					Text: "forty bytes of text that a model says..",
				})
			}
			c.Steps = []lane.Step{step}
			if _, err := s.Commit(b.Context(), c); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(20*float64(b.N)/b.Elapsed().Seconds(), "deltas/s")
}

// BenchmarkOpen opens a file that is there.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "pawl.db")
	for b.Loop() {
		s, err := sqlite.Open(b.Context(), path, sqlite.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
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
