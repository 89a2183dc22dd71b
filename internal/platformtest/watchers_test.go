package platformtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
)

// queries counts what a replica asks the database, by method.
type queries struct {
	mu sync.Mutex // guards what follows
	of map[string]int
}

func (q *queries) count(_ *platformtest.Platform, s platformtest.Step) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !s.After {
		q.of[s.Op]++
	}
	return nil
}

// aMinute is what readers of streams ask in a minute, but for looks at their tokens, which are counted apart.
func (q *queries) aMinute() (text string, tokens int) {
	synctest.Wait()
	q.mu.Lock()
	q.of = map[string]int{}
	q.mu.Unlock()
	time.Sleep(time.Minute)
	synctest.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, op := range []string{"EventHeads", "Settled", "Events", "Entries", "GetSession"} {
		if n := q.of[op]; n > 0 {
			text += fmt.Sprint(op, " ", n, " ")
		}
	}
	return strings.TrimSpace(text), q.of["FindToken"]
}

// watchers are at one replica, half over gRPC and half over HTTP, until leave is called.
type watchers struct {
	*world
	leave context.CancelFunc
	all   sync.WaitGroup
}

func (w *world) watching(p *platformtest.Platform, n int, sessions ...string) *watchers {
	ctx, leave := context.WithCancel(w.Context())
	ws := &watchers{world: w, leave: leave}
	for i := range n {
		id := sessions[i/2%len(sessions)]
		ws.all.Go(func() {
			var err error
			if i%2 == 0 {
				err = read(ctx, p, id, 0, func(*pawlv1.Event) bool { return true })
			} else {
				err = listen(ctx, p, id)
			}
			if err != nil && ctx.Err() == nil {
				w.Errorf("a watcher was left: %v", err)
			}
		})
	}
	return ws
}

// listen reads a session's events over HTTP until ctx ends.
func listen(ctx context.Context, p *platformtest.Platform, session string) error {
	res, err := openSSE(ctx, p, session, "0")
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // it is left in the middle
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() { //nolint:revive // only that it goes on counts
	}
	return lines.Err()
}

func (ws *watchers) end() {
	ws.leave()
	ws.all.Wait()
}

// However many watch, with nothing to see they cost the database what one costs: a query for all of their streams, and
// a look at the token that they came with now and then. Whom the owner of the lane serves costs it no query at all.
func TestWatchersAtRestCostWhatOneCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := &queries{of: map[string]int{}}
		w := &world{T: t}
		w.c = platformtest.New(t, platformtest.Options{Models: talkers{1, time.Hour}})
		w.a = w.c.Start("a", asked.count)
		b := w.c.Start("b", nil)
		idle := func(name string) string { return w.settled(b, name) }
		sessions := []string{idle("one"), idle("two"), idle("three")}
		asked.aMinute() // what the start sets off is over
		expect := func(what, want string, ws *watchers) {
			t.Helper()
			if got, tokens := asked.aMinute(); got != want || tokens > 12 {
				t.Errorf("%s: %q and %d looks at tokens, want %q and at most one in 5 s", what, got, tokens, want)
			}
			ws.end()
		}
		const tails = "EventHeads 120"
		expect("nobody", "", w.watching(w.a, 0, sessions...))
		expect("one", tails, w.watching(w.a, 1, sessions...))
		expect("many", tails, w.watching(w.a, 200, sessions...))
		// A model that says nothing keeps the lane busy.
		here := w.running(w.a, "here")
		there := w.running(b, "there")
		expect("watchers of a lane that runs here", "", w.watching(w.a, 200, here))
		expect("watchers of a lane that runs elsewhere", tails, w.watching(w.a, 200, there))
	})
}

// Where nobody else writes, watchers and waiters cost no query at all, and are told of everything all the same: of an
// answer, and of the end of what never began.
func TestReadersCostNothingWhereNobodyElseWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := &queries{of: map[string]int{}}
		w := &world{T: t}
		w.c = platformtest.New(t, platformtest.Options{Models: talkers{1, 4 * time.Minute}, Alone: true})
		w.a = w.c.Start("a", asked.count)
		id := w.running(w.a, "one")
		synctest.Wait()
		queued := w.submitAs(w.a, "one")
		asked.aMinute()
		watching := w.watching(w.a, 100, id)
		submissions := pawlv1.NewSubmissionServiceClient(w.a.GRPC)
		settled := make(chan error, 1)
		go func() {
			got, err := submissions.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{
				SubmissionId: queued.GetSubmissionId(),
			})
			if err == nil && got.GetSubmission().GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED {
				err = fmt.Errorf("it is %v", got.GetSubmission())
			}
			settled <- err
		}()
		if got, tokens := asked.aMinute(); got != "" || tokens > 12 {
			t.Errorf("%q and %d looks at tokens", got, tokens)
		}
		if _, err := submissions.AbortSubmission(t.Context(), &pawlv1.AbortSubmissionRequest{
			SubmissionId: queued.GetSubmissionId(),
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case err := <-settled:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("who waits for a queued submission was not told of its end")
		}
		watching.end()
		var last *pawlv1.Event
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := read(ctx, w.a, id, 0, func(e *pawlv1.Event) bool {
			last = e
			return e.GetSettled() == nil
		})
		if err != nil {
			t.Error(err)
		}
		if got := last.GetSettled().GetSubmission().GetResult().GetText(); got != "word" {
			t.Errorf("the answer is %q", got)
		}
	})
}

// running is a session with a submission that runs at p.
func (w *world) running(p *platformtest.Platform, name string) string {
	w.Helper()
	return w.submitAs(p, name).GetSessionId()
}

func (w *world) submitAs(p *platformtest.Platform, instance string) *pawlv1.Submission {
	w.Helper()
	got, err := pawlv1.NewSubmissionServiceClient(p.GRPC).Submit(w.Context(), &pawlv1.SubmitRequest{
		Key: &pawlv1.SessionKey{Agent: "shell", Instance: instance}, Message: "talk",
	})
	if err != nil {
		w.Fatal(err)
	}
	return got.GetSubmission()
}

// settled is a session with a submission that has settled.
func (w *world) settled(p *platformtest.Platform, name string) string {
	w.Helper()
	id := w.running(p, name)
	synctest.Wait()
	if _, err := pawlv1.NewSubmissionServiceClient(p.GRPC).AbortSession(w.Context(),
		&pawlv1.AbortSessionRequest{SessionId: id}); err != nil {
		w.Fatal(err)
	}
	time.Sleep(time.Second)
	return id
}
