package client

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

// printer writes what happens: the answer to out, everything else to err. A terminal gets the answer as it comes;
// elsewhere it is written once, when it is complete, as what was begun may be begun anew. Its fields are what was shown
// so far, which decides how the next event looks.
type printer struct {
	out, err io.Writer
	answers  terminal // out
	notes    terminal // err
	verbose  bool     // output is not folded
	mute     bool     // nothing is written to out
	inputs   bool     // those of a session that is watched are shown, and all that the model says is an answer
	works    string   // what is done while nothing is waited for, "" for the model's answer

	submission string
	seq        int64                         // of the last event
	heard      bool                          // something that tells that the model or a call is at work
	begun      bool                          // the submission has
	quiet      string                        // what was said to be waited for
	awaits     string                        // what it waits for to begin, if that is known
	thinking   bool                          // which was said
	modelWait  string                        // why the model is waited for, which was said
	partial    bool                          // the last line on out has no end
	sent       int                           // bytes of the text of the message at hand
	asked      map[string][]*pawlv1.ToolCall // by the last answer of each task, "" for the submission's own
	calls      map[string]*shownCall
	starting   []*shownCall      // calls of control's own, of which nothing more was said
	tasks      map[string]string // names of the sub-agents that work, by task
	done       bool              // the submission has settled
	failure    error
	run        *shownRun // nil for a session
	lost       error     // why a part of the answer could not be written
}

func newPrinter(out, err io.Writer) *printer {
	return &printer{
		out: out, err: err, answers: look(out), notes: look(err), calls: map[string]*shownCall{},
		tasks: map[string]string{}, asked: map[string][]*pawlv1.ToolCall{},
	}
}

// answer writes to out. A terminal that is gone, or a disk that is full, is no reader who has the answer.
func (p *printer) answer(text string) {
	if _, err := io.WriteString(p.out, text); err != nil && p.lost == nil {
		p.lost = fmt.Errorf("writing the answer: %w", err)
	}
}

// admitted notes what the events will be about.
func (p *printer) admitted(s *pawlv1.Submission) {
	first := p.submission == ""
	p.submission = s.GetSubmissionId()
	switch host := s.GetHostSubmissionId(); {
	case !first || s.GetStatus() == pawlv1.Submission_STATUS_SETTLED:
	case s.GetWhenBusy() == pawlv1.WhenBusy_WHEN_BUSY_STEER:
		p.note("[the session is busy: this joins submission " + host + " at the end of its turn]")
	case s.GetWhenBusy() == pawlv1.WhenBusy_WHEN_BUSY_INTERRUPT && host != "":
		p.note("[the session is busy: submission " + host + " is aborted, and this runs next]")
	}
}

// silent says what is waited for when nothing was said of it for a while.
func (p *printer) silent() {
	if p.run != nil {
		p.working()
		return
	}
	for _, c := range p.starting {
		p.note(p.about(c, ""))
	}
	p.starting = nil
	text := "[" + cmp.Or(p.works, "waiting for the model") + "]"
	switch {
	case p.heard, p.inputs:
		return
	case p.submission == "":
		text = "[the control plane has not accepted the prompt yet]"
	case p.awaits != "" && !p.begun:
		text = p.awaits
	case !p.begun:
		text = "[waiting for the session to begin: what its agent can use is gathered]"
	}
	if text != p.quiet {
		p.note(text)
		p.quiet = text
	}
}

// note writes a line about what happens.
func (p *printer) note(text string) {
	p.lineEnd()
	text = cli.Visible(text)
	if p.notes.width > 0 {
		text = wrap(text, p.notes.width-1)
	}
	p.dim(text + "\n")
}

func (p *printer) dim(text string) {
	if p.notes.colour {
		text = "\x1b[2m" + text + "\x1b[0m"
	}
	_, _ = io.WriteString(p.err, text)
}

// echoed ends the line on which a terminal has shown the key that was pressed.
func (p *printer) echoed() {
	if p.notes.is {
		_, _ = io.WriteString(p.err, "\n")
		p.partial = false
	}
}

// lineEnd ends a line of the answer before something else comes, where both are on terminals.
func (p *printer) lineEnd() {
	if p.partial && p.answers.is && p.notes.is {
		p.answer("\n")
		p.partial = false
	}
}

// event writes what an event tells. Events that were seen are passed over; the one that settles may have no seq.
func (p *printer) event(e *pawlv1.Event) {
	if e.GetSeq() != 0 && e.GetSeq() <= p.seq {
		return
	}
	p.seq = max(p.seq, e.GetSeq())
	if !p.runEvent(e) {
		p.tell(e)
	}
}

// tell writes what an event of a session tells, or one of the work in a run.
func (p *printer) tell(e *pawlv1.Event) {
	at := e.GetTime().AsTime()
	if e.GetTask() != nil {
		p.child(e)
		return
	}
	if e.GetModelWaiting() == nil {
		p.modelWait = ""
	}
	switch v := e.GetEvent().(type) {
	case *pawlv1.Event_Started:
		p.begun = true
		p.input(v.Started.GetEntry())
		return // says nothing of what is waited for
	case *pawlv1.Event_CompactionStarted:
		p.note(fmt.Sprintf("[the conversation is summarised: it has about %d tokens]", v.CompactionStarted.GetTokens()))
	case *pawlv1.Event_CompactionFinished:
		if why := v.CompactionFinished.GetError(); why != nil {
			p.note("[no summary was written: " + why.GetMessage() + "]")
		}
	case *pawlv1.Event_Text:
		p.text(v.Text.GetText())
	case *pawlv1.Event_Thinking:
		p.thinks()
	case *pawlv1.Event_Entry:
		p.entry(v.Entry.GetEntry())
	case *pawlv1.Event_Steered:
		p.joins(v.Steered.GetEntry())
	case *pawlv1.Event_Restarted:
		p.note("[the answer begins anew: " + v.Restarted.GetMessage() + "]")
		p.sent = 0
	case *pawlv1.Event_ModelSwitched, *pawlv1.Event_ModelWaiting:
		p.ofModel(e)
	case *pawlv1.Event_ToolStarted:
		p.started(v.ToolStarted, at)
	case *pawlv1.Event_ToolWaiting:
		p.waiting(v.ToolWaiting)
	case *pawlv1.Event_ToolOutput:
		p.output(v.ToolOutput, at)
	case *pawlv1.Event_ToolProgress:
		p.progress(v.ToolProgress)
	case *pawlv1.Event_ToolFinished:
		p.finished(v.ToolFinished)
	case *pawlv1.Event_ToolsChanged:
		p.toolsChanged(v.ToolsChanged)
	case *pawlv1.Event_SkillActivated:
		p.note("[skill " + v.SkillActivated.GetName() + "]")
	case *pawlv1.Event_ApprovalRequested, *pawlv1.Event_ApprovalDecided:
		p.approval(e)
	case *pawlv1.Event_Settled:
		p.settled(v.Settled.GetSubmission())
	}
	p.heard = true
}

// thinks says once that the model thinks.
func (p *printer) thinks() {
	if !p.thinking {
		p.note("[the model thinks]")
	}
	p.thinking = true
}

// ofModel writes what an event tells of the model.
func (p *printer) ofModel(e *pawlv1.Event) {
	if w := e.GetModelWaiting(); w != nil {
		p.modelWaits(w)
	} else {
		p.modelSwitched(e.GetModelSwitched())
	}
}

// modelSwitched says that another model goes on, and why.
func (p *printer) modelSwitched(s *pawlv1.ModelSwitched) {
	p.note(switched(s))
	p.sent = 0
}

func switched(s *pawlv1.ModelSwitched) string {
	return "[" + s.GetTo() + " goes on in the place of " + s.GetFrom() + ": " + s.GetMessage() + "]"
}

// modelWaits says why the model is waited for, once for each wait.
func (p *printer) modelWaits(w *pawlv1.ModelWaiting) {
	if p.modelWait == w.GetReason() {
		return
	}
	p.modelWait = w.GetReason()
	text := "[the model is waited for] "
	if w.GetReason() == "TOOLS" {
		text = "[the model is not asked yet] "
	}
	text += w.GetMessage() + "; since " + clock(w.GetSince().AsTime())
	if w.GetUntil() != nil {
		text += ", until " + clock(w.GetUntil().AsTime())
	}
	p.note(text)
}

// input shows what somebody has asked.
func (p *printer) input(e *pawlv1.Entry) {
	if !p.inputs {
		return
	}
	for _, b := range e.GetMessage().GetContent() {
		if t := b.GetText(); t != "" {
			p.note("> " + oneLine(t, max(p.notes.width, 80)-3))
		}
	}
}

// joins says that an input has joined the submission, and shows it unless it is the reader's own.
func (p *printer) joins(e *pawlv1.Entry) {
	if e.GetSubmissionId() == p.submission {
		p.note("[the model reads it with its next call]")
		return
	}
	for _, b := range e.GetMessage().GetContent() {
		if t := b.GetText(); t != "" {
			p.note("[steered] " + oneLine(t, max(p.notes.width, 80)-11))
		}
	}
}

// text writes a piece of an answer.
func (p *printer) text(s string) {
	p.sent += len(s)
	if p.mute || !p.answers.is || s == "" {
		return
	}
	p.answer(cli.Visible(s))
	p.partial = !strings.HasSuffix(s, "\n")
}

// entry writes what no delta brought of an answer, and ends it.
func (p *printer) entry(e *pawlv1.Entry) {
	if e.GetKind() != "assistant" {
		return
	}
	p.asked[""], p.thinking = callsOf(e), false
	skip, whole := p.sent, ""
	for _, b := range e.GetMessage().GetContent() {
		text := b.GetText()
		whole += text
		n := min(skip, len(text))
		skip -= n
		p.text(text[n:])
	}
	p.sent = 0
	if p.answers.is {
		if p.partial {
			p.answer("\n")
		}
		p.partial = false
		return
	}
	switch {
	case whole == "" || p.mute:
	case p.inputs:
		p.answer(whole + "\n")
	case len(p.asked[""]) > 0: // not the answer yet
		p.note(oneLine(whole, 200))
	}
}

// settled writes the answer where it was not written as it came, and keeps why there is none.
func (p *printer) settled(s *pawlv1.Submission) {
	p.done = true
	completed := s.GetOutcome() == pawlv1.Outcome_OUTCOME_COMPLETED
	switch {
	case !completed && p.inputs:
		p.note("[" + submissionState(s) + ": " + said(s) + "]")
	case !completed:
		p.failure = fmt.Errorf("%s: %s", s.GetError().GetReason(), s.GetError().GetMessage())
	case p.mute || p.inputs:
	case s.GetResult().GetData() != nil:
		p.lineEnd()
		body, err := marshal(s.GetResult().GetData(), "  ")
		if err != nil {
			p.failure = err
			return
		}
		p.answer(string(body) + "\n")
	case !p.answers.is:
		p.answer(s.GetResult().GetText() + "\n")
	}
}

// end leaves the terminal at the beginning of a line.
func (p *printer) end() { p.lineEnd() }

// clock is a time of this day for people.
func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }
