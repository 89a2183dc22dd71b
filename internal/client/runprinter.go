package client

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// shownRun is what a printer knows of the run that it shows.
type shownRun struct {
	all   bool // what commands print and agents do is shown, too
	steps []*pawlv1.StepStarted
	quiet string // what was said to be waited for
}

// runEvent writes what an event of a run tells. It reports whether nothing else is to be said of that.
func (p *printer) runEvent(e *pawlv1.Event) bool {
	if p.run == nil {
		return false
	}
	switch v := e.GetEvent().(type) {
	case *pawlv1.Event_RunStarted:
		if n := v.RunStarted.GetAttempt(); n > 1 {
			p.note(fmt.Sprintf("[attempt %d]", n))
		}
	case *pawlv1.Event_RunResumed:
		p.note("[another owner goes on with the run]")
	case *pawlv1.Event_StepStarted:
		p.stepStarted(v.StepStarted)
	case *pawlv1.Event_StepPaused:
		s := v.StepPaused
		p.run.forget(s.GetPath())
		p.note(fmt.Sprintf("[%s] %s: try %d has failed, the next one is in %v: %s", s.GetPath(), s.GetKind(),
			s.GetTry(), round(s.GetWait().AsDuration()), failureText(s.GetFailure())))
	case *pawlv1.Event_StepEnded:
		p.stepEnded(v.StepEnded)
	case *pawlv1.Event_Log:
		level := ""
		if l := v.Log.GetLevel(); l != "info" {
			level = l + ": "
		}
		p.note("[" + v.Log.GetPath() + "] " + level + v.Log.GetText())
	case *pawlv1.Event_RunSettled:
	case *pawlv1.Event_ApprovalRequested, *pawlv1.Event_ApprovalDecided:
		return false
	default:
		return !p.run.all
	}
	return true
}

func (p *printer) stepStarted(s *pawlv1.StepStarted) {
	p.run.forget(s.GetPath())
	p.run.steps = append(p.run.steps, s)
	if p.run.all {
		p.note("[" + s.GetPath() + "] " + s.GetKind() + " begins")
	}
}

func (r *shownRun) forget(path string) {
	r.steps = slices.DeleteFunc(r.steps, func(s *pawlv1.StepStarted) bool { return s.GetPath() == path })
}

// quietKinds are kinds of steps of which something else tells that they have completed: their steps, or their line.
var quietKinds = []string{"branch", "round", "log"}

func (p *printer) stepEnded(s *pawlv1.StepEnded) {
	p.run.forget(s.GetPath())
	if s.GetState() == "completed" && slices.Contains(quietKinds, s.GetKind()) {
		return
	}
	text := "[" + s.GetPath() + "] " + s.GetKind() + " " + s.GetState()
	if s.GetState() == "unknown" {
		text = "[" + s.GetPath() + "] " + s.GetKind() + ": nobody knows what it has done"
	}
	if took := s.GetDuration().AsDuration(); took >= 100*time.Millisecond {
		text += " after " + round(took).String()
	}
	if f := s.GetFailure(); f != nil && s.GetState() != "completed" && s.GetState() != "cancelled" {
		text += ": " + failureText(f)
	}
	p.note(text)
}

func failureText(f *pawlv1.StepFailure) string {
	text := f.GetReason() + ": " + f.GetMessage()
	if f.GetStep() != "" {
		text = f.GetStep() + ": " + text
	}
	return text
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// working says what a run works on, or waits for, when nothing was said of it for a while.
func (p *printer) working() {
	var open []string
	for i, s := range p.run.steps {
		inner := s.GetPath()
		within := func(o *pawlv1.StepStarted) bool { return strings.HasPrefix(o.GetPath(), inner) }
		if slices.ContainsFunc(p.run.steps[i+1:], within) {
			continue // what is within it is told
		}
		text := s.GetPath() + ": " + s.GetKind()
		if s.GetWait() != nil {
			text += ", for " + round(s.GetWait().AsDuration()).String() + " at most"
		}
		open = append(open, text)
	}
	if len(open) > 3 {
		open = append(open[:3], fmt.Sprintf("and %d more", len(open)-3))
	}
	text := "[waiting for " + strings.Join(open, "; ") + "]"
	if len(open) == 0 {
		text = "[waiting for the run to begin]"
		if p.seq > 0 {
			return
		}
	}
	if text != p.run.quiet {
		p.note(text)
		p.run.quiet = text
	}
}
