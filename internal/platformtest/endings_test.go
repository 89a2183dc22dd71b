package platformtest_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/call"
)

// rebind moves a session to another executor.
func (w *world) rebind(agent, executor string) {
	w.Helper()
	got, err := pawlv1.NewSessionServiceClient(w.a.GRPC).RebindSession(w.Context(),
		&pawlv1.RebindSessionRequest{SessionId: w.sessionID(agent), ExecutorId: executor})
	if err != nil || got.GetSession().GetExecutorId() != executor {
		w.Fatalf("%v, %v", got, err)
	}
}

// single leaves the machine one slot.
func (w *world) single() {
	w.Helper()
	w.m.Stop()
	w.m.Slots = 1
	w.m.Start(w.a)
	synctest.Wait()
}

// in submits to a session of its own.
func (w *world) in(instance, message string) string {
	w.Helper()
	got, err := pawlv1.NewSubmissionServiceClient(w.a.GRPC).Submit(w.Context(), &pawlv1.SubmitRequest{
		Key: &pawlv1.SessionKey{Agent: "shell", Instance: instance}, Message: message,
	})
	if err != nil {
		w.Fatal(err)
	}
	return got.GetSubmission().GetSubmissionId()
}

// A session whose host is lost for good says so at each prompt, until somebody moves it to another host. Then it goes
// on there, what waits and what comes.
func TestSessionOfALostHostIsMoved(t *testing.T) {
	within(t, func(w *world) {
		w.wait(w.a, w.submit(quick), "quick result")
		w.m.Wire.Cut() // for good
		other := w.c.Machine(w.a, "m2")
		other.Start(w.a)
		w.wait(w.a, w.submit("echo alone"), "executor m, which has this session's files, was not available")
		id := w.submit("echo first\necho second\n" + asked("", "echo third"))
		w.sleep(time.Minute)
		w.rebind("shell", "m2")
		began := time.Now()
		w.wait(w.a, id, "first\nsecond\nthird")
		if took := time.Since(began); took > 10*time.Second {
			w.Errorf("it took %s after the session was moved", took)
		}
		w.wait(w.a, w.submit("echo there"), "there")
		for _, c := range w.calls(w.sessionID("shell"))[2:] {
			if c.Tool != "task" && c.Executor != "m2" || c.State != call.Done {
				w.Errorf("call %s is %s at %q", c.ID, c.State, c.Executor)
			}
		}
		w.finish(w.a, "shell", "quick")
	})
}

// What waits for a slot of an executor gets it when it is free: no slot stays empty while a call waits.
func TestFreeSlotIsFilledAtOnce(t *testing.T) {
	for name, at := range map[string]func(w *world) *platformtest.Platform{
		"here":      func(w *world) *platformtest.Platform { return w.a },
		"elsewhere": func(w *world) *platformtest.Platform { return w.c.Start("b", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				w.single()
				w.move(at(w))
				w.in("first", "sleep 20m;echo first")
				w.sleep(5 * time.Second)
				id := w.in("second", "echo second")
				began := time.Now()
				w.wait(w.a, id, "second")
				if late := time.Since(began) - 19*time.Minute - 55*time.Second; late < 0 || late > time.Second {
					w.Errorf("it was served %s after the slot was free", late)
				}
				if n := w.count("Rejected", ""); n != 0 {
					w.Errorf("%d calls were refused", n)
				}
			})
		})
	}
}

// Of several sessions that wait for a slot the one that has waited longest gets it, whoever else comes.
func TestSlotGoesToWhoHasWaitedLongest(t *testing.T) {
	within(t, func(w *world) {
		w.single()
		w.in("first", "sleep 5m;echo first")
		w.sleep(time.Second)
		var ids []string
		began := time.Now()
		for i := range 30 {
			ids = append(ids, w.in(fmt.Sprint("later", i), "sleep 19s;echo later"))
			w.sleep(20 * time.Second)
		}
		for i, id := range ids {
			got := w.wait(w.a, id, "later")
			settled := got.GetSettledAt().AsTime().Sub(began)
			// each has to wait for the first, for those before it, and for its own 19 s
			free := max(299*time.Second+time.Duration(i+1)*19*time.Second,
				time.Duration(i)*20*time.Second+19*time.Second)
			if settled > free+5*time.Second {
				w.Errorf("the %dth was served after %s, its turn was over at %s", i, settled, free)
			}
		}
	})
}

// An executor that is slow to send output and stays connected: the output of a command that ended is waited for.
func TestOutputOfAnEndedCommandIsNotGivenUp(t *testing.T) {
	within(t, func(w *world) {
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "Output" {
				w.sleep(9 * time.Second)
			}
			return platformtest.Pass
		})
		w.wait(w.a, w.submit("add effects one;echo begin;sleep 1s;bytes 200000;sleep 1s;echo the end"), "the end")
		w.m.Tap(nil)
		if got := w.shown("shell"); !strings.HasPrefix(got, "begin\n") || !strings.HasSuffix(got, "the end\n") {
			w.Errorf("the stream has %d bytes", len(got))
		}
		w.finish(w.a, "shell", "one")
	})
}

// Sub-agents whose first calls come at the same time share a workspace, whichever executor each would have chosen.
func TestSubAgentsShareAWorkspace(t *testing.T) {
	within(t, func(w *world) {
		w.in("other", "sleep 1h") // m is not the least loaded once there is another one
		w.sleep(time.Second)
		var held atomic.Bool
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.String() == "before task T2" && !held.Swap(true) {
				w.sleep(10 * time.Second)
			}
			return nil
		})
		id := w.submitTo(w.a, "lead", asked("shell", "echo first")+"\n& "+asked("paced", "echo second"))
		w.sleep(time.Second)
		w.c.Machine(w.a, "m2").Start(w.a)
		w.wait(w.a, id, "first\nsecond")
		if !held.Load() {
			w.Error("no commit was held up")
		}
		for _, c := range w.calls(w.sessionID("lead")) {
			if c.Tool != "task" && c.Executor != "m" {
				w.Errorf("a call ran at %q", c.Executor)
			}
		}
		w.finishTree(w.a, "lead")
	})
}

// A statement that says for ever that it may work later, while the database answers all else, ends the submission that
// needs it, and no other.
func TestStatementThatNeverWorksEndsItsSubmission(t *testing.T) {
	for _, op := range []string{"T1", "T2", "T3", "T4"} {
		t.Run(op, func(t *testing.T) {
			within(t, func(w *world) {
				began := time.Now()
				w.submit("sleep 1m;echo before")
				sick := w.submit("echo never") // queued: T1 is a commit of its own
				w.a.DB.Strike(func(s platformtest.Step) error {
					if s.String() == "before "+op && s.Commit.Steps[0].LoopID == sick {
						return platformtest.ErrAway
					}
					return nil
				})
				next := w.submit("echo next")
				w.wait(w.a, w.in("other", "echo well"), "well")
				got, err := w.tryWait(w.a, sick)
				if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_INTERRUPTED ||
					got.GetError().GetReason() != "STALLED" ||
					!strings.Contains(got.GetError().GetMessage(), platformtest.ErrAway.Error()) {
					w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
				}
				if took := time.Since(began); took > 15*time.Minute {
					w.Errorf("it took %v", took)
				}
				w.wait(w.a, next, "next")
			})
		})
	}
}
