package platformtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
)

// long fills the context of the agent narrow.
var long = "say: " + strings.Repeat("word ", 1_500)

// summaries checks those of a session: their ranges follow each other, every one is told of, and none is lost or there
// twice.
func (w *world) summaries(agent string, want int) {
	w.Helper()
	id, told := w.sessionID(agent), map[int64]int{}
	for _, e := range w.events(id) {
		if e.Type == event.CompactionFinished && e.Compaction.EntrySeq > 0 {
			told[e.Compaction.EntrySeq]++
		}
	}
	var n int
	var to int64
	for _, e := range w.entries(id) {
		if e.Kind != session.Summary {
			continue
		}
		r := e.Range()
		if n++; r.From != to+1 || r.To < r.From || r.To >= e.Seq || told[e.Seq] != 1 {
			w.Errorf("summary %d is of %d to %d after %d, and told of %d times", e.Seq, r.From, r.To, to, told[e.Seq])
		}
		to = r.To
	}
	if n != want {
		w.Errorf("there are %d summaries, want %d", n, want)
	}
}

// A replica is killed before and after every commit of a submission whose conversation has to be summarised. Another
// one has the summary written, once, and does nothing twice.
func TestSummaryKilledAtEveryCommit(t *testing.T) {
	message := leaf("one", 1) + "\n" + leaf("two", 1)
	atEveryCommit(t, 6, func(w *world, n int64, after bool) bool {
		w.wait(w.a, w.submitTo(w.a, "narrow", long), "word")
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = w.try(w.Context(), w.a, "narrow", message) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		w.wait(p, w.again(p, "narrow", message), "two")
		w.summaries("narrow", 1)
		w.finish(p, "narrow", "one", "two")
		return met.Load()
	})
}

// A replica drains at every commit of one. Another one goes on, uncharged.
func TestSummaryDrainedAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 4, func(w *world, n int64, after bool) bool {
		b := w.c.Start("b", nil)
		w.move(b)
		w.wait(w.a, w.submitTo(w.a, "narrow", long), "word")
		stop := make(chan struct{})
		met := w.atCommit(w.a, n, after, func() error { close(stop); return nil })
		id := w.submitTo(w.a, "narrow", leaf("one", 1))
		go func() {
			select {
			case <-stop:
				w.a.Stop()
			case <-w.Context().Done():
			}
		}()
		if got := w.wait(b, id, "one"); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.summaries("narrow", 1)
		w.finish(b, "narrow", "one")
		return met.Load()
	})
}

// A replica is killed before and after every commit of a summary that was asked for by hand. It is written once, and
// whoever asks again is told the same.
func TestSummaryByHandKilledAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 3, func(w *world, n int64, after bool) bool {
		for _, message := range []string{"say: " + strings.Repeat("word ", 300), "say: a", "say: b"} {
			w.wait(w.a, w.submitTo(w.a, "narrow", message), "")
		}
		ask := func(p *platformtest.Platform) (*pawlv1.CompactSessionResponse, error) {
			ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
			defer cancel()
			return pawlv1.NewSessionServiceClient(p.GRPC).CompactSession(ctx, &pawlv1.CompactSessionRequest{
				SessionId: w.sessionID("narrow"), IdempotencyKey: "compact",
			})
		}
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = ask(w.a) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		again, err := ask(p)
		if err != nil || !again.GetReplayed() {
			w.Fatalf("the replay: %v, %v", again, err)
		}
		w.wait(p, again.GetSubmission().GetSubmissionId(), "## State")
		w.summaries("narrow", 1)
		w.wait(p, w.submitTo(p, "narrow", "say: next"), "next")
		w.checkStream("narrow")
		return met.Load()
	})
}
