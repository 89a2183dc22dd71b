package platformtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// asked is a line of a prompt by which a sub-agent is asked to carry out lines of its own.
func asked(agent string, lines ...string) string {
	args, err := json.Marshal(map[string]string{"agent": agent, "prompt": strings.Join(lines, "\n& ")})
	if err != nil {
		panic(err)
	}
	return "tool task: " + string(args)
}

// tree is a prompt whose root asks two sub-agents, of which each asks two, of which each runs a command. answers is
// what comes of it, in order, and leaves what the commands leave.
var (
	tree = strings.Join([]string{
		asked("", asked("", leaf("aa", 2)), asked("", leaf("ab", 5))),
		asked("", asked("", leaf("ba", 3)), asked("", leaf("bb", 4))),
	}, "\n& ")
	tree3   = asked("", asked("", asked("", leaf("deep", 10))))
	answers = "aa\nab\nba\nbb"
	leaves  = []string{"aa", "ab", "ba", "bb"}
)

func leaf(name string, seconds int) string {
	return fmt.Sprintf("sleep %ds;add effects %s;echo %s", seconds, name, name)
}

// atCommit calls f before, or after, the nth commit of a replica, or write of the ops, and reports whether there was
// one. Commits take a moment, so that what several loops want at once is merged.
func (w *world) atCommit(
	p *platformtest.Platform, n int64, after bool, f func() error, ops ...string,
) (met *atomic.Bool) {
	var count atomic.Int64
	met = &atomic.Bool{}
	p.DB.Strike(func(s platformtest.Step) error {
		if s.Commit == nil && !slices.Contains(ops, s.Op) {
			return nil
		}
		if !s.After {
			w.sleep(10 * time.Millisecond)
		}
		if s.After != after {
			return nil
		}
		if count.Add(1) == n {
			met.Store(true)
			return f()
		}
		return nil
	})
	return met
}

// atEveryCommit runs a test for each commit of a life, struck before it and after it. How many there are depends on
// which are merged, so it ends with the first that was not met.
func atEveryCommit(t *testing.T, least int64, run func(w *world, n int64, after bool) (met bool)) {
	t.Helper()
	atEveryCommitOf(t, nil, least, run)
}

// atEveryCommitOf is atEveryCommit in worlds with workflows.
func atEveryCommitOf(
	t *testing.T, workflows *workflow.Catalogue, least int64, run func(w *world, n int64, after bool) (met bool),
) {
	t.Helper()
	for _, after := range []bool{false, true} {
		word := map[bool]string{false: "before", true: "after"}[after]
		n := int64(1)
		for met := true; met; n++ {
			t.Run(fmt.Sprintf("%s %d", word, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { met = run(newWorldOf(t, workflows), n, after) })
			})
			if t.Failed() {
				return
			}
		}
		if n-2 < least {
			t.Errorf("%d commits are struck, want at least %d", n-2, least)
		}
	}
}

// finishTree is finish, and checks the conversations of all sub-agents. Every one has begun and ended once.
func (w *world) finishTree(p *platformtest.Platform, agent string, effects ...string) {
	w.Helper()
	w.finish(p, agent, effects...)
	began, ended := map[string]int{}, map[string]int{}
	sessions := map[string]string{}
	for _, e := range w.events(w.sessionID(agent)) {
		switch e.Type {
		case event.TaskStarted:
			began[e.Loop.Task]++
			sessions[e.Loop.Task] = e.Loop.Session
		case event.TaskFinished:
			ended[e.Loop.Task]++
		}
	}
	for task, n := range began {
		if n != 1 || ended[task] != 1 && !w.forced(agent, task) {
			w.Errorf("sub-agent %s has begun %d times and ended %d times", task, n, ended[task])
		}
		w.checkConversation(sessions[task], w.forced(agent, task))
	}
	if listed := w.children(w.sessionID(agent)); len(listed) != len(began) {
		w.Errorf("%d conversations of sub-agents, want %d", len(listed), len(began))
	}
}

// children are the conversations of all sub-agents below one.
func (w *world) children(sessionID string) (all []session.Session) {
	w.Helper()
	direct, err := w.c.Store.ListSessions(w.Context(), session.Filter{
		Tenant: session.DefaultTenant, Limit: 1000, ParentID: sessionID,
	})
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range direct {
		all = append(append(all, s), w.children(s.ID)...)
	}
	return all
}

// forced reports whether the submission that a sub-agent worked for was settled from rows.
func (w *world) forced(agent, task string) bool {
	w.Helper()
	root := ""
	for _, e := range w.events(w.sessionID(agent)) {
		if e.Loop != nil && e.Loop.Task == task {
			root = e.Loop.Root
		}
	}
	sub, err := w.c.Store.GetSubmission(w.Context(), session.DefaultTenant, root)
	if err != nil {
		w.Fatal(err)
	}
	return fromRows(sub)
}

// checkConversation: it begins with its input, every call has one result, and it ends with an answer, or the reason why
// there is none.
func (w *world) checkConversation(sessionID string, forced bool) {
	w.Helper()
	all := w.entries(sessionID)
	wants := map[string]bool{}
	for i, e := range all {
		if e.Seq != int64(i)+1 || (i == 0) != (e.Kind == session.Input) {
			w.Errorf("entry %d of a sub-agent has seq %d and is a %s", i+1, e.Seq, e.Kind)
		}
		for _, b := range e.Message.Content {
			switch b.Type {
			case model.ToolCallBlock:
				wants[b.CallID] = true
			case model.ToolResultBlock:
				if !wants[b.CallID] {
					w.Errorf("call %s of a sub-agent has a result that nobody waits for", b.CallID)
				}
				delete(wants, b.CallID)
			}
		}
	}
	last := all[len(all)-1].Kind
	if !forced && (len(wants) > 0 || last != session.Assistant && last != session.Marker) {
		w.Errorf("the conversation of a sub-agent ends with a %s, and %d calls have no result", last, len(wants))
	}
}

// abort asks for the end of a submission.
func (w *world) abort(p *platformtest.Platform, id string) {
	w.Helper()
	_, err := pawlv1.NewSubmissionServiceClient(p.GRPC).AbortSubmission(w.Context(),
		&pawlv1.AbortSubmissionRequest{SubmissionId: id})
	if err != nil {
		w.Error(err)
	}
}

// Sub-agents work side by side, each in a conversation of its own, and the one who asked gets their answers in order.
func TestTree(t *testing.T) {
	within(t, func(w *world) {
		began := time.Now()
		id := w.submit(tree)
		w.wait(w.a, id, answers)
		if took := time.Since(began); took > 6*time.Second {
			w.Errorf("it took %s, and the longest command takes 5 s", took)
		}
		if n := len(w.children(w.sessionID("shell"))); n != 6 {
			w.Errorf("%d sub-agents", n)
		}
		w.wait(w.a, w.submit(tree3), "deep")
		w.finishTree(w.a, "shell", append(leaves, "deep")...)
	})
}

// A watch of a sub-agent's conversation has its events, and those alone. Nobody else may speak in it.
func TestConversationOfASubAgentIsWatchedAndNotPrompted(t *testing.T) {
	within(t, func(w *world) {
		w.wait(w.a, w.submit(tree), answers)
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		for _, s := range w.children(w.sessionID("shell")) {
			watch, err := pawlv1.NewSessionServiceClient(w.a.GRPC).WatchSession(ctx,
				&pawlv1.WatchSessionRequest{SessionId: s.ID})
			if err != nil {
				w.Fatal(err)
			}
			for first, ended := true, false; !ended; {
				m, err := watch.Recv()
				if err != nil {
					w.Fatal(err)
				}
				for _, e := range m.GetEvents() {
					if e.GetTask().GetSessionId() != s.ID || first != (e.GetTaskStarted() != nil) || ended {
						w.Errorf("a watch of %s has %v", s.ID, e)
					}
					first, ended = false, e.GetTaskFinished() != nil
				}
			}
			_, err = pawlv1.NewSubmissionServiceClient(w.a.GRPC).Submit(w.Context(), &pawlv1.SubmitRequest{
				Key:     &pawlv1.SessionKey{Agent: s.Key.Agent, Instance: s.Key.Instance, Session: s.Key.Name},
				Message: "say: hi",
			})
			if rpc.Reason(err) != "INVALID_NAME" {
				w.Errorf("a prompt to a sub-agent's conversation: %v", err)
			}
		}
	})
}

// A replica is killed before and after every commit of a tree. Another one goes on, and the outcome is the same.
func TestTreeKilledAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 15, func(w *world, n int64, after bool) bool {
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = w.try(w.Context(), w.a, "shell", tree) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		id := w.again(p, "shell", tree)
		w.wait(p, id, answers)
		w.finishTree(p, "shell", leaves...)
		return met.Load()
	})
}

// A replica drains at every commit of a tree. Another one goes on, uncharged.
func TestTreeDrainedAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 15, func(w *world, n int64, after bool) bool {
		b := w.c.Start("b", nil)
		w.move(b) // the executor stays
		stop := make(chan struct{})
		met := w.atCommit(w.a, n, after, func() error { close(stop); return nil })
		id := w.submit(tree)
		go func() {
			select {
			case <-stop:
				w.a.Stop()
			case <-w.Context().Done():
			}
		}()
		if got := w.wait(b, id, answers); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.finishTree(b, "shell", leaves...)
		return met.Load()
	})
}

// A submission is aborted at every commit of its tree: nothing of it runs any longer, and that is confirmed.
func TestTreeAbortedAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 15, func(w *world, n int64, after bool) bool {
		said := make(chan struct{})
		met := w.atCommit(w.a, n, after, func() error { close(said); return nil })
		id := w.submit(tree)
		select {
		case <-said:
			w.abort(w.a, id)
		case <-time.After(time.Hour):
		}
		began := time.Now()
		got, err := w.tryWait(w.a, id)
		switch o := got.GetOutcome(); {
		case err != nil:
			w.Fatal(err)
		case o == pawlv1.Outcome_OUTCOME_COMPLETED: // it was the last commit
		case o != pawlv1.Outcome_OUTCOME_ABORTED || !got.GetCancellation().GetConfirmed():
			w.Errorf("settled %v", got)
		}
		if took := time.Since(began); took > 3*time.Second {
			w.Errorf("it took %s to end", took)
		}
		w.finishTree(w.a, "shell", w.effects()...)
		seen := map[string]bool{}
		for _, e := range w.effects() {
			if seen[e] {
				w.Errorf("%s ran twice", e)
			}
			seen[e] = true
		}
		return met.Load()
	})
}
