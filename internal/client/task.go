package client

import (
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// child notes what a sub-agent does: that it begins, which tools it calls, and that it has finished. What it says is
// for the agent that asked.
func (p *printer) child(e *pawlv1.Event) {
	id := e.GetTask().GetTaskId()
	switch v := e.GetEvent().(type) {
	case *pawlv1.Event_TaskStarted:
		name := v.TaskStarted.GetAgent()
		if parent := p.tasks[e.GetTask().GetParentTaskId()]; parent != "" {
			name = parent + "/" + name
		}
		p.tasks[id] = name
		about := v.TaskStarted.GetDescription()
		for _, b := range v.TaskStarted.GetEntry().GetMessage().GetContent() {
			if about == "" {
				about = b.GetText()
			}
		}
		p.note(strings.TrimSpace("[task " + name + "] " + oneLine(about, p.lineWidth())))
		if c := p.calls[id]; c != nil {
			p.went(c)
		}
	case *pawlv1.Event_Entry:
		if e := v.Entry.GetEntry(); e.GetKind() == "assistant" {
			p.asked[id] = callsOf(e)
		}
	case *pawlv1.Event_ToolStarted:
		t := v.ToolStarted
		about := p.titleOf(id, t.GetName(), t.GetToolCallId())
		p.note(strings.TrimSpace("[task " + p.tasks[id] + "] " + t.GetName() + " " + oneLine(about, p.lineWidth())))
	case *pawlv1.Event_ToolWaiting:
		if w := v.ToolWaiting; w.GetReason() != "APPROVAL" { // of which ApprovalRequested says more
			p.note("[task " + p.tasks[id] + "] " + w.GetName() + " waits")
			p.why(w)
		}
	case *pawlv1.Event_ModelWaiting:
		p.modelWaits(v.ModelWaiting)
	case *pawlv1.Event_ModelSwitched:
		p.note("[task " + p.tasks[id] + "] " + switched(v.ModelSwitched))
	case *pawlv1.Event_ToolsChanged:
		p.toolsChanged(v.ToolsChanged)
	case *pawlv1.Event_ApprovalRequested, *pawlv1.Event_ApprovalDecided:
		p.approval(e)
	case *pawlv1.Event_TaskFinished:
		text := "[task " + p.tasks[id] + ": " + outcomeText(v.TaskFinished.GetOutcome())
		if d := v.TaskFinished.GetDuration().AsDuration(); d > 0 {
			text += " after " + d.Round(time.Millisecond).String()
		}
		if why := v.TaskFinished.GetError().GetMessage(); why != "" {
			text += ": " + why
		}
		p.note(text + "]")
		delete(p.tasks, id)
		delete(p.asked, id)
	}
}

// lineWidth is how much of a text fits a note.
func (p *printer) lineWidth() int { return max(p.notes.width, 80) - 20 }

func outcomeText(o pawlv1.Outcome) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_"))
}
