package call

import (
	"cmp"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/tool"
)

// Times of the rules.
const (
	// CancelGrace is between TERM and KILL at the executor.
	CancelGrace = 2 * time.Second
	cancelWait  = 10 * time.Second // for an executor to say that a cancelled call has ended
	// cancelLimit is for all of that, whatever an executor's connection does.
	cancelLimit = 20 * time.Second
	silence     = 10 * time.Second // of an executor about a call, before it is asked
	yieldAfter  = 5 * time.Second  // of not reaching an executor
	resendAfter = time.Second      // before a call that its executor has no room for is sent again
	fetchEvery  = time.Second      // how often the output of an ended command is asked for while none comes
	// outputGone is how long no output of an ended command may come before its result counts without it.
	outputGone = 10 * time.Second
	// outputLate is the same while its executor is connected: that one keeps the output until the result is
	// acknowledged, so what does not come is late, not lost. Whoever stops the loop does not want to wait for it.
	outputLate = time.Minute
	// MaxRaise is how far an executor's claim may lift a lane's epoch at once.
	MaxRaise = 1 << 20
)

// Situation is all that a decision about an open call depends on.
type Situation struct {
	Call  Call
	Watch Watch
	// Said is what its executor says of it; nil is a look at the call without news. Unsent says that a message about
	// the call did not get through.
	Said ReportBody
	Read bool // the record was read after Said came

	Gated      bool // it waits for an approval
	Unknown    bool // whether its executor is connected cannot be found out now
	Connected  bool // its executor is
	Connection int64
	Epoch      int64  // of the lane
	Bound      string // the executor that has the session's files, "" for none
	Demands    string // the tool that its executor has to offer, "" for none

	Complete bool          // with Watch.Ended: all of its output was taken, or will never come
	Stopped  time.Time     // since when its loop is to end; zero while it goes on
	Grace    time.Duration // how long a call waits for an executor that is away
	Now      time.Time
}

// Do is what is to be done with a call.
type Do uint8

// What can be done with a call.
const (
	DoNothing  Do = iota // for now
	DoPlace              // choose an executor, record a new dispatch and send it
	DoWait               // ask for a slot at the connection of its executor
	DoSend               // send the present dispatch
	DoAttach             // ask its executor for its state, its output and its result
	DoCancel             // ask its executor, or the function that carries it out, to end it
	DoLoad               // read the record
	DoTake               // Reply is what it came to; that counts once all output has been taken
	DoComplete           // what it came to counts
	DoConclude           // State and Reply are its outcome
	DoHold               // neither dispatch it nor ask before Until
	DoResend             // send the present dispatch again at Until; watchers are told why it waits
	DoNote               // it runs
	DoRaise              // lift the epoch of the lane above Above, and send it again
	DoYield              // leave the lane to other replicas
	DoBegin              // begin the loop that carries it out, if there is room for another one
	DoRun                // run the function that carries it out
)

// Action is a decision.
type Action struct {
	Do    Do
	State State
	Reply tool.Reply
	Until time.Time
	Why   Rejected // with DoResend
	Above int64
}

// Unsent is what is said in place of an executor that a message did not reach.
type Unsent struct{}

func (Unsent) report() {}

// rule is a line of a table.
type rule struct {
	when func(s *Situation) bool
	then func(s *Situation) Action
}

// Next decides by the first rule that applies. After the action is carried out, or with what is said of it, it is asked
// again until it is DoNothing.
func Next(s Situation) Action {
	table := looks
	switch {
	case s.Said != nil && s.Watch.Ended:
		table = newsOfEnded
	case s.Said != nil:
		table = news
	case s.Gated:
		table = gated
	case s.Watch.Ended:
		table = ended
	case s.Call.Kind == uint8(tool.KindTask):
		table = tasks
	case s.Call.Kind == uint8(tool.KindControl):
		table = functions
	case s.Call.State == Pending:
		table = pending
	}
	for _, r := range table {
		if r.when(&s) {
			return r.then(&s)
		}
	}
	return Action{}
}

// gated calls wait for an approval: nothing is done with them before.
var gated = []rule{{(*Situation).stopped, neverStarted}}

// pending calls wait for an executor, or for a slot of the one that they have.
var pending = []rule{
	{(*Situation).stopped, neverStarted},
	{func(s *Situation) bool {
		return s.Call.Executor == "" && s.Now.After(s.Watch.WaitsUntil(s.Grace))
	}, unavailable},
	{func(s *Situation) bool { return s.Call.Executor == "" && !s.Now.Before(s.Watch.Hold) }, act(DoPlace)},
	{func(s *Situation) bool { return s.Call.Executor == "" || s.Unknown }, act(DoNothing)},
	{func(s *Situation) bool { return s.away() && s.since(s.Watch.Away) > s.Grace }, unavailable},
	{(*Situation).away, act(DoNothing)},
	{func(s *Situation) bool { return s.Watch.Connection != s.Connection }, act(DoWait)},
}

// looks is what is done with a dispatched call of which there is no news.
var looks = []rule{
	{func(s *Situation) bool { return s.stopped() && s.since(s.Stopped) > cancelLimit }, unconfirmed},
	{func(s *Situation) bool { return s.Unknown }, act(DoNothing)},
	{func(s *Situation) bool { return s.away() && s.stopped() && s.since(s.Watch.Away) > cancelWait }, unconfirmed},
	{func(s *Situation) bool { return s.away() && s.since(s.Watch.Away) > s.Grace }, awayTooLong},
	{(*Situation).away, act(DoNothing)},
	{func(s *Situation) bool { return s.hasNoRoom() && s.stopped() }, neverStarted},
	{func(s *Situation) bool { return s.hasNoRoom() && !s.Now.Before(s.Watch.Resend) }, act(DoSend)},
	{(*Situation).hasNoRoom, act(DoNothing)},
	{(*Situation).mustAsk, act(DoAttach)},
	{func(s *Situation) bool { return s.stopped() && s.Watch.Cancelled.IsZero() }, act(DoCancel)},
	{
		func(s *Situation) bool { return s.stopped() && s.since(s.Watch.Cancelled) > CancelGrace+cancelWait },
		unconfirmed,
	},
}

// news is what is done when something is said of a call.
var news = []rule{
	{said(func(_ *Situation, r Rejected) bool { return r.Reason == "STALE_EPOCH" }), staleEpoch},
	{said(func(s *Situation, r Rejected) bool { return r.Epoch < s.Epoch }), act(DoNothing)}, // a former owner's order
	{said(func(_ *Situation, r Rejected) bool { return r.Reason == "REVOKED" }), again},
	{said(func(_ *Situation, r Rejected) bool { return noRoom(r) }), func(s *Situation) Action {
		return Action{Do: DoResend, Until: s.Now.Add(resendAfter), Why: s.Said.(Rejected)}
	}},
	// It may be the Cancel that was refused: that proves nothing about the call.
	{said(func(s *Situation, r Rejected) bool {
		return r.Reason == "NO_SPACE" && !s.Watch.Cancelled.IsZero()
	}), act(DoNothing)},
	{said(func(*Situation, Rejected) bool { return true }), refused},

	{said(func(s *Situation, e Ended) bool {
		return StateOf(e.Reply) == Lost && s.Call.Safety != tool.AtMostOnce && !s.stopped()
	}), again},
	{said(func(*Situation, Ended) bool { return true }), func(s *Situation) Action {
		return Action{Do: DoTake, Reply: s.Said.(Ended).Reply}
	}},

	{found(RunningThere), act(DoNote)},
	{
		said(func(s *Situation, f Found) bool {
			return f.State == InterruptedThere && s.Call.Safety != tool.AtMostOnce && !s.stopped()
		}), again,
	},
	{found(InterruptedThere), func(*Situation) Action {
		return Action{Do: DoTake, Reply: interrupted("nobody saw the call end")}
	}},
	{said(func(s *Situation, f Found) bool {
		return f.State == Unknown && f.Dispatch != 0 && f.Dispatch != s.Call.Dispatch // an answer to an older question
	}), act(DoNothing)},
	{said(func(s *Situation, f Found) bool {
		return f.State == Unknown && (s.Call.Safety != tool.AtMostOnce || s.neverRan(f))
	}), again},
	{found(Unknown), noProof},
	// It was acknowledged, which happens only after it was recorded.
	{said(func(s *Situation, f Found) bool { return f.State == TombstoneThere && !s.Read }), act(DoLoad)},
	{found(TombstoneThere), noProof},

	{said(func(s *Situation, _ Unsent) bool { return s.since(s.Watch.Unreached) >= yieldAfter }), act(DoYield)},
}

// newsOfEnded is what is done when something is said of a call whose result has come.
var newsOfEnded = []rule{
	{found(Unknown), act(DoComplete)}, // its output is gone
	{found(TombstoneThere), act(DoComplete)},
	{said(func(*Situation, Ended) bool { return true }), func(s *Situation) Action {
		return Action{Do: DoTake, Reply: s.Said.(Ended).Reply}
	}},
}

// ended is what is done with a call whose result has come before its output.
var ended = []rule{
	{func(s *Situation) bool { return s.Complete }, act(DoComplete)},
	{func(s *Situation) bool { return s.Unknown }, act(DoNothing)}, // the executor may be there, and have the output
	{func(s *Situation) bool { return s.quiet() >= s.patience() }, act(DoComplete)},
	{func(s *Situation) bool {
		return s.Connected && (s.Watch.Connection == 0 || s.since(s.Watch.Asked) >= fetchEvery)
	}, act(DoAttach)},
}

// tasks are carried out by loops, which hear themselves of what ends them.
var tasks = []rule{
	{func(s *Situation) bool { return s.Call.State == Pending && s.stopped() }, neverStarted},
	{func(s *Situation) bool { return s.Call.State == Pending }, act(DoBegin)},
}

// functions are run by this process. Their calls are pending until they have ended.
var functions = []rule{
	{func(s *Situation) bool { return s.Watch.Running.IsZero() && s.stopped() && !s.Watch.Inherited }, neverStarted},
	{func(s *Situation) bool { return s.Watch.Running.IsZero() && s.stopped() }, unconfirmed},
	{func(s *Situation) bool { return s.Watch.Running.IsZero() }, act(DoRun)},
	{func(s *Situation) bool { return s.stopped() && s.Watch.Cancelled.IsZero() }, act(DoCancel)},
	{func(s *Situation) bool { return s.stopped() && s.since(s.Watch.Cancelled) > cancelWait }, unconfirmed},
}

func act(d Do) func(*Situation) Action { return func(*Situation) Action { return Action{Do: d} } }

// said applies to a kind of report.
func said[R ReportBody](when func(s *Situation, r R) bool) func(*Situation) bool {
	return func(s *Situation) bool {
		r, ok := s.Said.(R)
		return ok && when(s, r)
	}
}

func found(state FoundState) func(*Situation) bool {
	return said(func(_ *Situation, f Found) bool { return f.State == state })
}

func (s *Situation) since(t time.Time) time.Duration { return s.Now.Sub(t) }
func (s *Situation) stopped() bool                   { return !s.Stopped.IsZero() }
func (s *Situation) away() bool                      { return !s.Connected }

// hasNoRoom: the executor has said over its present connection that it does not have the present dispatch.
func (s *Situation) hasNoRoom() bool {
	return !s.Watch.Resend.IsZero() && s.Watch.Connection == s.Connection
}

// mustAsk: over a new connection, and when nothing was heard for long, because an answer can get lost.
func (s *Situation) mustAsk() bool {
	w := &s.Watch
	return (w.Connection != s.Connection || s.since(w.Heard) > silence) && !s.Now.Before(w.Hold)
}

// quiet is how long no output of an ended command has come although it could. An executor that has just gone away gets
// the time to come back, however long nothing has come before.
func (s *Situation) quiet() time.Duration {
	if s.away() {
		return min(s.since(s.Watch.Quiet), s.since(s.Watch.Away))
	}
	return s.since(s.Watch.Quiet)
}

func (s *Situation) patience() time.Duration {
	if s.Connected && !s.stopped() {
		return outputLate
	}
	return outputGone
}

// neverRan is C5: an executor that does not know a call has never run it if its journal is the one that it had at the
// dispatch and has forgotten nothing since.
func (s *Situation) neverRan(f Found) bool {
	return f.Journal != "" && f.Journal == s.Call.Journal && s.since(s.Watch.Sent) < ForgetAfter
}

func noRoom(r Rejected) bool { return r.Reason == "CAPACITY" || r.Reason == "DRAINING" }

// pause is how long after its n-th dispatch a call is not dispatched again: the second follows at once, and an executor
// that refuses for ever costs little.
func pause(dispatches int) time.Duration {
	if dispatches < 2 {
		return 0
	}
	return min(time.Second<<min(dispatches-2, 6), time.Minute)
}

// again is for a call that is known not to run, or that may run again.
func again(s *Situation) Action {
	if s.stopped() {
		return neverStarted(s)
	}
	if until := s.Watch.Sent.Add(pause(s.Call.Dispatch)); s.Now.Before(until) {
		return Action{Do: DoHold, Until: until}
	}
	return Action{Do: DoPlace}
}

// staleEpoch: an executor knows a higher epoch of the lane. Whether the lane is lost is for the database to say, which
// is asked to lift the epoch. A loop that is to end does without the executor's word.
func staleEpoch(s *Situation) Action {
	known := s.Said.(Rejected).Known
	switch {
	case s.stopped() || s.Watch.Connection != s.Connection:
		return Action{}
	case known <= s.Epoch:
		return Action{Do: DoAttach} // lifted meanwhile, or a former owner's order: the executor says what it has
	case known >= s.Epoch+MaxRaise:
		return conclude(Done, tool.Failure{Reason: "STALE_EPOCH", Message: fmt.Sprintf("The executor did not run this "+
			"call: it claims to know epoch %d of the session, which is at %d. Its journal is damaged, or it has "+
			"served "+
			"another database", known, s.Epoch)})
	}
	return Action{Do: DoRaise, Above: known}
}

func refused(s *Situation) Action {
	r := s.Said.(Rejected)
	message := r.Message
	if r.Reason == "NO_SPACE" || r.Reason == "UNSUPPORTED" {
		message = "The executor did not run this call: " + message // or the model takes it for the call's own failure
	}
	return conclude(Done, tool.Failure{Reason: r.Reason, Message: message})
}

func conclude(state State, f tool.Failure) Action {
	return Action{Do: DoConclude, State: state, Reply: f}
}

func interrupted(message string) tool.Failure {
	return tool.Failure{Reason: tool.ReasonInterrupted, Message: message}
}

func neverStarted(*Situation) Action {
	return conclude(Cancelled, tool.Failure{Reason: tool.ReasonCancelled, Message: "the call was never started"})
}

func unconfirmed(s *Situation) Action {
	if s.Call.Kind == uint8(tool.KindControl) {
		return conclude(Lost, interrupted("nobody saw the call end"))
	}
	return conclude(Lost, interrupted("the executor did not confirm that the call has ended"))
}

func awayTooLong(s *Situation) Action {
	return conclude(Lost, interrupted(fmt.Sprintf("executor %s has been away for %s", s.Call.Executor, s.Grace)))
}

func unavailable(s *Situation) Action {
	who := "no executor for this agent was"
	if s.Demands != "" {
		who = "no executor that offers " + s.Demands + " to this agent was"
	}
	if at := cmp.Or(s.Call.Executor, s.Bound); at != "" {
		who = fmt.Sprintf("executor %s, which has this session's files, was not", at)
	}
	return conclude(Done, tool.Failure{Reason: "UNAVAILABLE", Message: fmt.Sprintf(
		"%s available for %s; the call was never started", who, s.Grace)})
}

// noProof is why an executor that does not know a call may have run it.
func noProof(s *Situation) Action {
	if f := s.Said.(Found); f.Journal != s.Call.Journal {
		return conclude(Lost, interrupted("the executor has no record of the call: its data directory is not the one "+
			"that it had when the call was sent, but another one, a copy, or an older state of it"))
	}
	return conclude(Lost, interrupted("the executor has no record of the call, and none that proves that it never ran"))
}
