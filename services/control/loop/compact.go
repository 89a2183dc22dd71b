package loop

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Why a summary is written.
const (
	whyThreshold = "threshold"
	whyOverflow  = "overflow"
	whyManual    = "manual"
)

const (
	// assumedWindow is that of a summariser of which it is not known, in tokens.
	assumedWindow = 32_000
	// leastShown is what a summariser is shown at least, in tokens.
	leastShown = 2_000
	// maxSummaryFailures is how often a loop tries in vain. Between two tries are 2, 4, 8 … turns.
	maxSummaryFailures = 5
)

// compaction is what a loop knows of the size of its context.
type compaction struct {
	budget session.Budget
	cut    session.Cut
	why    string // a summary for cut is due, "" when none is
	tokens int64  // of the context, about
	// learned is what the provider's refusal says of the window, 0 for nothing. refused is the turn that it refused.
	learned int64
	refused int
	// failures are those of summarisers in a row, which is asked again in turn again. halved is how often one has said
	// that it was shown too much.
	failures, again, halved int
	writes                  bool // what streams is a summary
}

// planCut looks whether a summary is due, before the model is asked.
func (l *loop) planCut(ctx context.Context) error {
	c := &l.compaction
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	m, err := l.tree.deps.Models.Model(l.model())
	if err != nil {
		return nil // asking it says so
	}
	why, wanted := l.due(m)
	if !wanted {
		return nil
	}
	cut, ok := session.Plan(l.conversation.live, c.budget)
	if ok {
		c.cut, c.why = cut, why
	}
	return nil
}

// due tells why a summary would be written now.
func (l *loop) due(m model.Model) (why string, ok bool) {
	c, says := &l.compaction, l.as.def.Compacts()
	c.budget = l.settings(m).Budget(l.fixed())
	if says.Off && !l.row.Options.Compact {
		c.budget.Limit = 0
	}
	if c.learned > 0 {
		c.budget = c.budget.Within(c.learned)
	}
	switch {
	case l.row.Options.Compact:
		c.tokens = session.Estimate(l.conversation.live, c.budget.Fixed)
		return whyManual, true
	case c.budget.Limit == 0, c.failures > 0 && l.row.Turn < c.again, c.failures >= maxSummaryFailures:
		return "", false
	}
	c.tokens = session.Estimate(l.conversation.live, c.budget.Fixed)
	if why = whyThreshold; c.refused == l.row.Turn {
		why = whyOverflow
	}
	return why, c.tokens > c.budget.Limit
}

// settings are what the agent and its model say of the size of contexts.
func (l *loop) settings(m model.Model) session.Settings {
	says := l.as.def.Compacts()
	s := session.Settings{Window: m.Window(), MaxOutput: m.MaxOutput(), Reserve: says.Reserve, Keep: says.Keep}
	if says.Window > 0 {
		s.Window = says.Window
	}
	return s
}

// fixed is about how many tokens a request has beside its messages.
func (l *loop) fixed() int64 {
	n := len(l.system())
	for _, t := range l.as.Tools.Told() {
		n += len(t.Name) + len(t.Description) + len(t.Schema)
	}
	return session.TextTokens(n)
}

// fitted is the context as it is sent. One that is too large, although a summary was written or could not be, has its
// oldest results shortened; then nothing that was made of the messages is of use.
func (l *loop) fitted() ([]model.Message, *model.Memo) {
	c := l.conversation
	room := l.compaction.budget.Limit - l.compaction.budget.Fixed
	if l.compaction.budget.Limit == 0 || c.tokens <= room {
		return c.messages, &c.memo
	}
	return session.Fit(c.messages, room), nil
}

// mayShorten reports whether a failure says that the context is too long, and something can be done about it once.
func (l *loop) mayShorten(failed *modelFailure) bool {
	c, last := &l.compaction, &l.conversation.last
	return overflows(failed.error) && c.refused != l.row.Turn &&
		(last.Kind != session.Summary || last.Range().Why != whyOverflow)
}

// overflows reports whether a model has failed because the context is too long.
func overflows(failure error) bool {
	e, ok := model.AsError(failure)
	return ok && e.Kind == model.KindContextOverflow
}

// stopOf is why the loop ends when the model has failed for good.
func (l *loop) stopOf(failed *modelFailure) Stop {
	s := modelStop(failed.error)
	if overflows(failed.error) {
		s.Message += "; a shorter context was sent, and does not fit either: make the input or the instructions " +
			"shorter, offer fewer tools, or set compaction.window of the agent"
	}
	return s
}

// shorten notes that the provider has refused the context, so that a shorter one is sent. What the window is, it does
// not say: the context has to become a good deal smaller than what was sent.
func (l *loop) shorten(req model.Request, a answer, failed *modelFailure) error {
	c := &l.compaction
	var sent int64
	for _, m := range req.Messages {
		sent += session.Tokens(m)
	}
	c.refused, c.learned, c.failures = l.row.Turn, l.fixed()+sent*6/10, 0
	l.tree.deps.Log.Info("the provider says that the context is too long, a shorter one is made",
		"submission_id", l.row.ID, "session_id", l.row.SessionID, "turn", l.row.Turn, "tokens", sent)
	l.DropText()
	spent := l.row.Usage
	return l.Commit(lane.Step{Spent: &spent, Turn: l.record(req, a, failed.Error()), Events: []event.Event{
		l.Event(event.Event{Type: event.Restarted, Reason: "context_overflow", Text: failed.Error()}),
	}}, lane.With{})
}

// compact has a model write the summary that is due, and commits it. It does not change anything else: who dies before
// the commit has only lost what the call has cost.
func (l *loop) compact(ctx context.Context) error {
	c := &l.compaction
	by := l.model()
	if m := l.as.def.Compacts().Model; m != nil {
		by = *m
	}
	m, err := l.tree.deps.Models.Model(by)
	if err != nil {
		return l.notCompacted(ctx, lane.Step{}, l.told(by), err)
	}
	req, cut := session.Ask(l.conversation.live, c.cut, l.capacity(by, m))
	c.cut = cut
	place, err := l.takeStream(ctx)
	if err != nil || place == nil {
		return err
	}
	told := l.told(by)
	l.Push(l.Event(event.Event{Type: event.CompactionStarted, Compaction: &told}))
	if err := l.Flush(); err != nil {
		l.tree.streams.leave(place)
		return err
	}
	c.writes = true
	a, err := l.stream(ctx, m, req, place)
	c.writes = false
	told.Duration = time.Since(a.begun)
	of := sha256.Sum256([]byte(req.Messages[0].Text()))
	as := asked{by: by, purpose: lane.PurposeSummary, of: of[:]}
	var failed *modelFailure
	switch {
	case err == nil && a.done:
		return l.compacted(ctx, lane.Step{Turn: l.recordOf(as, req, a, "")}, told, a)
	case errors.As(err, &failed):
		s := lane.Step{Turn: l.recordOf(as, req, a, failed.Error())}
		if to, ok := l.fallback(m, failed.error); ok && by == l.model() && !overflows(failed.error) {
			told.Error = failed.Error()
			l.Push(l.Event(event.Event{Type: event.CompactionFinished, Compaction: &told}))
			return l.switchTo(to, failed.error, s.Turn) // which is asked for the summary then
		}
		return l.notCompacted(ctx, s, told, failed.error)
	case err == nil && l.end.stop != nil:
		told.Error = "the submission ends"
		l.Push(l.Event(event.Event{Type: event.CompactionFinished, Compaction: &told}))
	}
	return err
}

// capacity is how many tokens a summariser may be asked with.
func (l *loop) capacity(by model.Ref, m model.Model) int64 {
	window := m.Window()
	if says := l.as.def.Compacts().Window; says > 0 && by == l.model() {
		window = says
	}
	if window <= 0 {
		window = assumedWindow
	}
	if learned := l.compaction.learned; learned > 0 && by == l.model() {
		window = min(window, learned)
	}
	return max((window-l.compaction.cut.Summary)*9/10>>l.compaction.halved, leastShown)
}

// told is what watchers are told of the compaction that is due.
func (l *loop) told(by model.Ref) event.Compaction {
	c := &l.compaction
	return event.Compaction{
		Why: c.why, Model: by.String(), From: c.cut.From, To: c.cut.To, Tokens: c.tokens,
		Messages: len(l.conversation.messages),
	}
}

// compacted commits a summary.
func (l *loop) compacted(ctx context.Context, s lane.Step, told event.Compaction, a answer) error {
	c := &l.compaction
	live := l.conversation.live
	usage := *a.message.Usage
	l.tree.spend(l, usage)
	l.row.Usage = l.row.Usage.Add(usage)
	spent := l.row.Usage
	s.Spent, told.Usage = &spent, usage
	m, ok := session.Write(live, c.cut, a.message.Text(), c.why, l.changes)
	if !ok {
		return l.notCompacted(ctx, s, told, errors.New("the summary that the model has written is empty"))
	}
	by := s.Turn.Model
	if ref, err := model.ParseRef(by); err == nil {
		m.Model = &ref
	}
	m.Usage = &usage
	e := l.entry(&s, session.Summary, m)
	after := session.Live(append(live[:len(live):len(live)], e))
	told.EntrySeq, told.TokensNow = e.Seq, session.Estimate(after, c.budget.Fixed)
	told.MessagesNow = len(session.Context(after))
	s.Events = append(s.Events, l.Event(event.Event{Type: event.CompactionFinished, Compaction: &told}))
	if err := l.Commit(s, lane.With{}); err != nil {
		return err
	}
	c.failures, c.halved = 0, 0
	return nil
}

// changes reports whether calls of a tool may change the file that they name.
func (l *loop) changes(name string) bool {
	t, err := l.as.Tools.Find(name)
	return err != nil || t.Safety != tool.Pure
}

// notCompacted leaves the conversation as it is, and says why. It is not tried again for a while, unless less has to be
// shown.
func (l *loop) notCompacted(ctx context.Context, s lane.Step, told event.Compaction, cause error) error {
	c := &l.compaction
	less := overflows(cause) && c.halved < 3
	if c.failures++; less {
		c.halved++
		c.again = l.row.Turn
	} else {
		c.again = l.row.Turn + 1<<c.failures
	}
	told.Error = cause.Error()
	l.tree.deps.Log.Warn("a conversation could not be summarised", "submission_id", l.row.ID, "session_id",
		l.row.SessionID, "model", told.Model, "reason", c.why, "error", cause)
	spent := l.row.Usage
	s.Spent = &spent
	s.Events = append(s.Events, l.Event(event.Event{Type: event.CompactionFinished, Compaction: &told}))
	if c.why == whyManual && !less {
		return l.settleWith(ctx, s, Stop{
			lane.Failed, "COMPACTION_FAILED",
			fmt.Sprintf("the summary could not be written, and the conversation is as it was: %v", cause),
		})
	}
	return l.Commit(s, lane.With{})
}

// endCompaction ends a loop that was begun for a summary: there is nothing more to cut.
func (l *loop) endCompaction() error {
	s := Stop{Outcome: lane.Completed}
	if l.result(lane.Step{}) == nil {
		s.Reason, s.Message = "NOTHING_TO_COMPACT", "the conversation is too short for a summary to be of use"
	}
	return l.finish(lane.Step{}, s, nil)
}
