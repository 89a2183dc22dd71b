package call

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/tool"
)

var t0 = time.Now()

func ago(d time.Duration) time.Time { return t0.Add(-d) }

// dispatched is an at-most-once call that was sent a minute ago over the executor's present connection.
func dispatched(change ...func(*Situation)) Situation {
	s := Situation{
		Call: Call{
			Kind: uint8(tool.KindExecutor), Safety: tool.AtMostOnce, State: Dispatched, Executor: "x", Dispatch: 1,
			Journal: "j1",
		},
		Watch:     Watch{Made: ago(time.Minute), Sent: ago(time.Minute), Connection: 3, Heard: ago(time.Second)},
		Connected: true, Connection: 3, Epoch: 5, Grace: 2 * time.Minute, Now: t0,
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func says(b ReportBody) func(*Situation)       { return func(s *Situation) { s.Said = b } }
func stopped(d time.Duration) func(*Situation) { return func(s *Situation) { s.Stopped = ago(d) } }
func watch(f func(*Watch)) func(*Situation)    { return func(s *Situation) { f(&s.Watch) } }
func safety(f tool.Safety) func(*Situation)    { return func(s *Situation) { s.Call.Safety = f } }
func kind(k tool.Kind, st State) func(*Situation) {
	return func(s *Situation) { s.Call.Kind, s.Call.State = uint8(k), st }
}

func away(since time.Duration) func(*Situation) {
	return func(s *Situation) { s.Connected, s.Watch.Away = false, ago(since) }
}

func unknown(s *Situation) { s.Unknown = true }

func pendingAt(executor string) func(*Situation) {
	return func(s *Situation) {
		s.Call.State, s.Call.Executor, s.Call.Dispatch, s.Watch.Sent = Pending, executor, 0, time.Time{}
	}
}

func TestNext(t *testing.T) {
	lost := tool.Failure{Reason: tool.ReasonInterrupted}
	for name, c := range map[string]struct {
		s     Situation
		want  Do
		state State // of DoConclude
	}{
		"nothing is new":              {s: dispatched(), want: DoNothing},
		"another connection is asked": {s: dispatched(func(s *Situation) { s.Connection = 4 }), want: DoAttach},
		"but not while it is held": {s: dispatched(func(s *Situation) {
			s.Connection, s.Watch.Hold = 4, t0.Add(time.Second)
		}), want: DoNothing},
		"silence is asked about": {
			s:    dispatched(watch(func(w *Watch) { w.Heard = ago(11 * time.Second) })),
			want: DoAttach,
		},
		"away for a while":  {s: dispatched(away(time.Minute)), want: DoNothing},
		"away for too long": {s: dispatched(away(3 * time.Minute)), want: DoConclude, state: Lost},
		"whether it is away": {
			s:    dispatched(away(3*time.Minute), func(s *Situation) { s.Unknown = true }),
			want: DoNothing,
		},
		"a stop cancels": {s: dispatched(stopped(0)), want: DoCancel},
		"after it has asked anew": {
			s:    dispatched(stopped(0), func(s *Situation) { s.Connection = 4 }),
			want: DoAttach,
		},
		"once": {
			s:    dispatched(stopped(time.Second), watch(func(w *Watch) { w.Cancelled = ago(time.Second) })),
			want: DoNothing,
		},
		"and waits for the end": {
			s:    dispatched(stopped(13*time.Second), watch(func(w *Watch) { w.Cancelled = ago(13 * time.Second) })),
			want: DoConclude, state: Lost,
		},
		"not for one that is away": {
			s:    dispatched(stopped(11*time.Second), away(11*time.Second)),
			want: DoConclude, state: Lost,
		},
		"nor for one that flaps": {
			s:    dispatched(stopped(21*time.Second), func(s *Situation) { s.Connection = 9 }),
			want: DoConclude, state: Lost,
		},
		"nor for what is not known": {
			s:    dispatched(stopped(21*time.Second), func(s *Situation) { s.Unknown = true }),
			want: DoConclude, state: Lost,
		},

		"no executor yet": {s: dispatched(pendingAt("")), want: DoPlace},
		"none for too long": {
			s:    dispatched(pendingAt(""), watch(func(w *Watch) { w.Made = ago(time.Hour) })),
			want: DoConclude, state: Done,
		},
		"none yet under a new owner": {
			s: dispatched(pendingAt(""), watch(func(w *Watch) {
				w.Made, w.Owned = ago(time.Hour), ago(14*time.Second)
			})),
			want: DoPlace,
		},
		"none for too long under a new owner": {
			s: dispatched(pendingAt(""), watch(func(w *Watch) {
				w.Made, w.Owned = ago(time.Hour), ago(16*time.Second)
			})),
			want: DoConclude, state: Done,
		},
		"none any more": {s: dispatched(pendingAt(""), stopped(0)), want: DoConclude, state: Cancelled},
		"waits for a slot": {
			s:    dispatched(pendingAt("x"), watch(func(w *Watch) { w.Made = ago(time.Hour) })),
			want: DoNothing,
		},
		"asks for a slot": {
			s:    dispatched(pendingAt("x"), func(s *Situation) { s.Connection = 4 }),
			want: DoWait,
		},
		"where nothing gets to": {
			s: dispatched(pendingAt("x"), says(Unsent{}),
				watch(func(w *Watch) { w.Unreached = ago(5 * time.Second) })),
			want: DoYield,
		},
		"of one that is away":   {s: dispatched(pendingAt("x"), away(time.Hour)), want: DoConclude, state: Done},
		"waits, and is stopped": {s: dispatched(pendingAt("x"), stopped(0)), want: DoConclude, state: Cancelled},

		"its end":                {s: dispatched(says(Ended{tool.ExecReply{}})), want: DoTake},
		"an end that nobody saw": {s: dispatched(says(Ended{lost})), want: DoTake},
		"of what may run again":  {s: dispatched(says(Ended{lost}), safety(tool.Pure)), want: DoPlace},
		"unless it is to end":    {s: dispatched(says(Ended{lost}), safety(tool.Pure), stopped(0)), want: DoTake},
		"runs there":             {s: dispatched(says(Found{State: RunningThere})), want: DoNote},
		"finished there":         {s: dispatched(says(Found{State: FinishedThere})), want: DoNothing},
		"interrupted there":      {s: dispatched(says(Found{State: InterruptedThere})), want: DoTake},
		"interrupted, may run again": {
			s:    dispatched(says(Found{State: InterruptedThere}), safety(tool.Idempotent)),
			want: DoPlace,
		},
		"an old answer": {
			s:    dispatched(says(Found{State: Unknown, Dispatch: 7, Journal: "j1"})),
			want: DoNothing,
		},
		"never ran": {
			s:    dispatched(says(Found{State: Unknown, Dispatch: 1, Journal: "j1"})),
			want: DoPlace,
		},
		"another journal": {
			s:    dispatched(says(Found{State: Unknown, Dispatch: 1, Journal: "j2"})),
			want: DoConclude, state: Lost,
		},
		"forgotten": {
			s: dispatched(says(Found{State: Unknown, Journal: "j1"}),
				watch(func(w *Watch) { w.Sent = ago(25 * time.Hour) })),
			want: DoConclude, state: Lost,
		},
		"unknown, may run again": {
			s:    dispatched(says(Found{State: Unknown, Journal: "j2"}), safety(tool.Pure)),
			want: DoPlace,
		},
		"never ran, and is stopped": {
			s:    dispatched(says(Found{State: Unknown, Journal: "j1"}), stopped(0)),
			want: DoConclude, state: Cancelled,
		},
		"too often": {
			s: dispatched(says(Found{State: Unknown, Journal: "j1"}), func(s *Situation) {
				s.Call.Dispatch, s.Watch.Sent = 4, ago(time.Second)
			}),
			want: DoHold,
		},
		"acknowledged": {s: dispatched(says(Found{State: TombstoneThere})), want: DoLoad},
		"but not recorded": {
			s:    dispatched(says(Found{State: TombstoneThere}), func(s *Situation) { s.Read = true }),
			want: DoConclude, state: Lost,
		},

		"a former owner's order": {s: dispatched(says(Rejected{Epoch: 4, Reason: "CONFLICT"})), want: DoNothing},
		"a revoked dispatch":     {s: dispatched(says(Rejected{Epoch: 5, Reason: "REVOKED"})), want: DoPlace},
		"no room":                {s: dispatched(says(Rejected{Epoch: 5, Reason: "CAPACITY"})), want: DoResend},
		"draining":               {s: dispatched(says(Rejected{Epoch: 5, Reason: "DRAINING"})), want: DoResend},
		"sent again":             {s: dispatched(watch(func(w *Watch) { w.Resend = t0 })), want: DoSend},
		"not yet": {
			s:    dispatched(watch(func(w *Watch) { w.Resend = t0.Add(1) })),
			want: DoNothing,
		},
		"not over another connection": {
			s:    dispatched(watch(func(w *Watch) { w.Resend = t0 }), func(s *Situation) { s.Connection = 4 }),
			want: DoAttach,
		},
		"no room, and is stopped": {
			s:    dispatched(watch(func(w *Watch) { w.Resend = t0 }), stopped(0)),
			want: DoConclude, state: Cancelled,
		},
		"a conflict": {
			s:    dispatched(says(Rejected{Epoch: 5, Reason: "CONFLICT"})),
			want: DoConclude, state: Done,
		},
		"no space for a Cancel": {
			s:    dispatched(says(Rejected{Epoch: 5, Reason: "NO_SPACE"}), watch(func(w *Watch) { w.Cancelled = t0 })),
			want: DoNothing,
		},
		"a higher epoch": {
			s:    dispatched(says(Rejected{Epoch: 5, Known: 9, Reason: "STALE_EPOCH"})),
			want: DoRaise,
		},
		"raised meanwhile": {
			s:    dispatched(says(Rejected{Epoch: 2, Known: 4, Reason: "STALE_EPOCH"})),
			want: DoAttach,
		},
		"a claim out of range": {
			s:    dispatched(says(Rejected{Epoch: 5, Known: 1 << 40, Reason: "STALE_EPOCH"})),
			want: DoConclude, state: Done,
		},
		"not worth raising": {
			s:    dispatched(says(Rejected{Epoch: 5, Known: 9, Reason: "STALE_EPOCH"}), stopped(0)),
			want: DoNothing,
		},
		"nothing gets through": {
			s:    dispatched(says(Unsent{}), watch(func(w *Watch) { w.Unreached = ago(time.Second) })),
			want: DoNothing,
		},
		"for long": {
			s:    dispatched(says(Unsent{}), watch(func(w *Watch) { w.Unreached = ago(5 * time.Second) })),
			want: DoYield,
		},

		"output is incomplete": {s: over(), want: DoNothing},
		"and asked for":        {s: over(watch(func(w *Watch) { w.Asked = ago(time.Second) })), want: DoAttach},
		"and comes late": {
			s:    over(watch(func(w *Watch) { w.Asked, w.Quiet = ago(0), ago(30*time.Second) })),
			want: DoNothing,
		},
		"and never comes": {
			s:    over(watch(func(w *Watch) { w.Quiet = ago(time.Minute) })),
			want: DoComplete,
		},
		"and is not waited for": {
			s:    over(stopped(0), watch(func(w *Watch) { w.Quiet = ago(10 * time.Second) })),
			want: DoComplete,
		},
		"nor if the executor's away": {
			s:    over(away(10*time.Second), watch(func(w *Watch) { w.Quiet = ago(10 * time.Second) })),
			want: DoComplete,
		},
		"unless it may come back": {
			s:    over(away(9*time.Second), watch(func(w *Watch) { w.Quiet = ago(time.Minute) })),
			want: DoNothing,
		},
		"or may be there": {
			s:    over(away(0), unknown, watch(func(w *Watch) { w.Quiet, w.Away = ago(time.Hour), ago(time.Hour) })),
			want: DoNothing,
		},
		"and is forgotten":     {s: over(says(Found{State: TombstoneThere})), want: DoComplete},
		"and is not cancelled": {s: over(stopped(0)), want: DoNothing},

		"a task begins": {s: dispatched(kind(tool.KindTask, Pending)), want: DoBegin},
		"a task is never begun": {
			s:    dispatched(kind(tool.KindTask, Pending), stopped(0)),
			want: DoConclude, state: Cancelled,
		},
		"a task ends by itself": {
			s:    dispatched(kind(tool.KindTask, Dispatched), stopped(time.Hour)),
			want: DoNothing,
		},
		"a function is run": {s: dispatched(kind(tool.KindControl, Pending)), want: DoRun},
		"once a time": {
			s:    dispatched(kind(tool.KindControl, Pending), watch(func(w *Watch) { w.Running = t0 })),
			want: DoNothing,
		},
		"a function is ended": {
			s:    dispatched(kind(tool.KindControl, Pending), stopped(0), watch(func(w *Watch) { w.Running = t0 })),
			want: DoCancel,
		},
		"a function does not end": {
			s: dispatched(kind(tool.KindControl, Pending), stopped(time.Minute), watch(func(w *Watch) {
				w.Running, w.Cancelled = t0, ago(11*time.Second)
			})),
			want: DoConclude, state: Lost,
		},
		"a function of another life": {
			s:    dispatched(kind(tool.KindControl, Pending), stopped(0), watch(func(w *Watch) { w.Inherited = true })),
			want: DoConclude, state: Lost,
		},
		"a function never begun": {
			s:    dispatched(kind(tool.KindControl, Pending), stopped(0)),
			want: DoConclude, state: Cancelled,
		},
	} {
		got := Next(c.s)
		if got.Do != c.want || got.Do == DoConclude && got.State != c.state {
			t.Errorf("%s: do %d (state %s), want %d (state %s)", name, got.Do, got.State, c.want, c.state)
		}
	}
}

// over is a command whose result has come before its output.
func over(change ...func(*Situation)) Situation {
	return dispatched(append([]func(*Situation){func(s *Situation) {
		s.Watch.Ended, s.Watch.Quiet, s.Watch.Asked = true, t0, t0
	}}, change...)...)
}

func situations() *rapid.Generator[Situation] {
	return rapid.Custom(func(t *rapid.T) Situation {
		past := func(name string) time.Time {
			return ago(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, name)))
		}
		maybe := func(name string) time.Time {
			if rapid.Bool().Draw(t, name+" set") {
				return past(name)
			}
			return time.Time{}
		}
		s := Situation{
			Call: Call{
				Kind: uint8(rapid.SampledFrom([]tool.Kind{
					tool.KindExecutor, tool.KindTask,
					tool.KindControl,
				}).Draw(t, "kind")),
				Safety: rapid.SampledFrom([]tool.Safety{tool.AtMostOnce, tool.Idempotent, tool.Pure}).Draw(t, "safety"),
				State:  rapid.SampledFrom([]State{Pending, Dispatched}).Draw(t, "state"), Executor: "x",
				Dispatch: rapid.IntRange(1, 9).Draw(t, "dispatch"),
				Journal:  rapid.SampledFrom([]string{"", "j1"}).Draw(t, "journal"),
			},
			Watch: Watch{
				Made: past("made"), Owned: past("owned"), Sent: past("sent"),
				Connection: rapid.Int64Range(0, 2).Draw(t, "connection"),
				Heard:      past("heard"), Away: maybe("away"), Unreached: maybe("unreached"), Resend: maybe("resend"),
				Cancelled: maybe("cancelled"), Running: maybe("running"), Ended: rapid.Bool().Draw(t, "ended"),
				Quiet: past("quiet"), Asked: past("asked"), Inherited: rapid.Bool().Draw(t, "inherited"),
			},
			Unknown: rapid.Bool().Draw(t, "unknown"), Connected: rapid.Bool().Draw(t, "connected"), Connection: 1,
			Epoch: 5, Complete: rapid.Bool().Draw(t, "complete"),
			Read: rapid.Bool().Draw(t, "read"), Stopped: maybe("stopped"), Grace: time.Minute, Now: t0,
		}
		s.Said = rapid.SampledFrom([]ReportBody{
			nil, nil,
			Unsent{},
			Accepted{},
			Ended{tool.ExecReply{}},
			Ended{interrupted("")},
			Found{State: RunningThere},
			Found{State: InterruptedThere},
			Found{State: TombstoneThere},
			Found{State: FinishedThere},
			Found{State: Unknown, Journal: "j1"},
			Found{State: Unknown, Journal: "j2"},
			Rejected{Epoch: 5, Reason: "CAPACITY"},
			Rejected{Epoch: 5, Reason: "REVOKED"},
			Rejected{Epoch: 5, Reason: "STALE_EPOCH", Known: 8},
			Rejected{Epoch: 4, Reason: "NO_SPACE"},
		}).Draw(t, "said")
		return s
	})
}

// What must hold of every decision, whatever is the case.
func TestDecisionsAreSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situations().Draw(t, "situation")
		a := Next(s)
		begins := a.Do == DoPlace || a.Do == DoSend || a.Do == DoBegin || a.Do == DoRun || a.Do == DoRaise
		if begins && !s.Stopped.IsZero() {
			t.Fatal("something is begun for a loop that is to end")
		}
		if a.Do == DoPlace && s.Call.State == Dispatched && s.Call.Safety == tool.AtMostOnce {
			f, found := s.Said.(Found)
			r, rejected := s.Said.(Rejected)
			proof := found && f.State == Unknown && f.Journal == s.Call.Journal && f.Journal != "" ||
				rejected && r.Reason == "REVOKED"
			if !proof {
				t.Fatal("a call that must not run twice is dispatched again without proof that it never ran")
			}
		}
		if a.Do == DoSend && s.Watch.Connection != s.Connection {
			t.Fatal("a dispatch is sent again over another connection, whose journal may not know it")
		}
		if a.Do == DoConclude && a.State == Done && s.Said == nil && s.Call.State != Pending {
			t.Fatal("a call that may run is said to be done")
		}
		if (a.Do == DoConclude) != (a.Reply != nil && a.State.Terminal()) && a.Do != DoTake {
			t.Fatalf("an outcome without a reply, or a reply without one: %+v", a)
		}
	})
}

// A call of a loop that is to end comes to its end, whatever its executor and the connection do, and without news.
func TestStopIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situations().Draw(t, "situation")
		if s.Call.Kind == uint8(tool.KindTask) {
			s.Call.State = Pending // what has begun ends by itself
		}
		s.Stopped, s.Said, s.Watch.Cancelled, s.Watch.Ended = s.Now, nil, time.Time{}, false
		for range 60 {
			s.Connected = rapid.Bool().Draw(t, "connected")
			s.Connection = rapid.Int64Range(1, 3).Draw(t, "connection")
			for range 8 {
				a := Next(s)
				switch a.Do {
				case DoConclude:
					return
				case DoAttach:
					s.Watch.Connection, s.Watch.Heard, s.Watch.Cancelled = s.Connection, s.Now, time.Time{}
					continue
				case DoCancel:
					s.Watch.Cancelled = s.Now
					continue
				case DoNothing:
				default:
					t.Fatalf("do %d for a call that is to end", a.Do)
				}
				break
			}
			s.Now = s.Now.Add(time.Second)
		}
		t.Fatal("the call has not ended a minute after its loop was stopped")
	})
}
