package crashtest_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/pgtest"
)

// events is a session's stream from its beginning to the end of a submission.
func (p *plane) events(sub *pawlv1.Submission) (all []*pawlv1.Event) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	watch, err := pawlv1.NewSessionServiceClient(p.dial()).WatchSession(ctx,
		&pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId()})
	if err != nil {
		p.t.Fatal(err)
	}
	for {
		m, err := watch.Recv()
		if err != nil {
			p.t.Fatalf("after %d events: %v", len(all), err)
		}
		for _, e := range m.GetEvents() {
			all = append(all, e)
			if e.GetSettled() != nil && e.GetSubmissionId() == sub.GetSubmissionId() {
				return all
			}
		}
	}
}

// settledOnce checks the stream up to the end of last: dense, and every submission in it settled once and sent each
// call once.
func (p *plane) settledOnce(last *pawlv1.Submission) {
	p.t.Helper()
	settled, started := map[string]int{}, map[string]int{}
	for i, e := range p.events(last) {
		if e.GetSeq() != int64(i)+1 {
			p.t.Errorf("event %d has seq %d", i+1, e.GetSeq())
		}
		if e.GetSettled() != nil {
			settled[e.GetSubmissionId()]++
		}
		if s := e.GetToolStarted(); s != nil {
			started[s.GetCallId()]++
		}
	}
	for what, counts := range map[string]map[string]int{"submission settled": settled, "call was sent": started} {
		for id, n := range counts {
			if n != 1 {
				p.t.Errorf("%s %d times: %s", what, n, id)
			}
		}
	}
}

// Crash matrix 24: SIGTERM hands the running submission over with its command and no attempt charged, and what waits
// behind it.
func TestDrainHandsOver(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	one, two := newPlane(t, url), newPlane(t, url)
	m := newMachine(t, two)
	sub, next := one.submit(command), one.submit("echo next")
	m.awaitRunning()
	began := time.Now()
	if err := one.End(syscall.SIGTERM, patience); err != nil {
		t.Fatal(err)
	}
	t.Logf("the drained replica was gone after %s", time.Since(began).Round(time.Millisecond))
	if code := one.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	m.release()
	got := two.wait(sub.GetSubmissionId())
	m.once(got)
	after := two.wait(next.GetSubmissionId())
	if after.GetResult().GetText() != "next" {
		t.Errorf("what came after settled %v: %q", after.GetOutcome(), after.GetResult().GetText())
	}
	for _, s := range []*pawlv1.Submission{got, after} {
		if s.GetAttempts() != 0 {
			t.Errorf("%d attempts were charged", s.GetAttempts())
		}
	}
	two.settledOnce(next)
}

// onRecord is all that Postgres has of what a session did.
func onRecord(t *testing.T, url, session string) string {
	t.Helper()
	return ask[string](t, url, `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT 'segment ' || s::text FROM segments s WHERE lane_id = $1
		UNION ALL SELECT 'entry ' || e::text FROM entries e WHERE session_id = $1
		UNION ALL SELECT 'submission ' || s::text FROM submissions s WHERE lane_id = $1
		UNION ALL SELECT 'call ' || c::text FROM tool_calls c WHERE lane_id = $1) AS x (line)`, session)
}

// Crash matrix 12: a replica is stopped in the middle of a turn and thaws when another has its sessions and has ended
// what it ran. It says that it has lost them, and writes nothing of them any more.
func TestFrozenReplica(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	one, two := newPlane(t, url), newPlane(t, url)
	m := newMachine(t, two)
	// It says something all the time, so that the frozen replica has something to write when it thaws.
	sub := one.submit(`echo run >> runs; until [ -e go ]; do echo tick; sleep 0.05; done; echo end >> runs; echo the true result`)
	m.awaitRunning()
	one.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { one.Signal(syscall.SIGCONT) })
	read := pawlv1.NewSubmissionServiceClient(two.dial())
	eventually(t, "the other replica to take over", func() bool {
		got, err := read.GetSubmission(t.Context(), &pawlv1.GetSubmissionRequest{SubmissionId: sub.GetSubmissionId()})
		return err == nil && got.GetSubmission().GetAttempts() == 1
	})
	m.release()
	got := two.wait(sub.GetSubmissionId())
	if text := got.GetResult().GetText(); got.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED ||
		!strings.HasSuffix(strings.TrimSpace(text), "the true result") || got.GetAttempts() != 1 {
		t.Errorf("settled %v after %d attempts: %q", got.GetOutcome(), got.GetAttempts(), text)
	}
	if runs := m.read("runs"); runs != "run\nend\n" {
		t.Errorf("the command left %q", runs)
	}

	before := onRecord(t, url, sub.GetSessionId())
	one.Signal(syscall.SIGCONT)
	one.says("this replica's lease was lost, starting over")
	eventually(t, "the thawed replica to live again, when nothing of its life before runs", func() bool {
		return strings.Count(one.Log.String(), "replica registered") == 2
	})
	if after := onRecord(t, url, sub.GetSessionId()); after != before {
		t.Errorf("after the thaw there is on record\n%s\nbefore it was\n%s", after, before)
	}
	if n := ask[int](t, url, `SELECT count(*) FROM (SELECT epoch, max(epoch) OVER (ORDER BY first_seq) AS highest FROM segments
		WHERE lane_id = $1) AS s WHERE epoch < highest`, sub.GetSessionId()); n != 0 {
		t.Errorf("%d segments of the frozen replica come after those of the other", n)
	}

	// It lives on, as another incarnation.
	again := one.submit("echo again")
	if got := one.wait(again.GetSubmissionId()); got.GetResult().GetText() != "again" {
		t.Errorf("the thawed replica settles %v: %q", got.GetOutcome(), got.GetResult().GetText())
	}
	for _, p := range []*plane{one, two} {
		p.settledOnce(again)
	}
}
