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
	case *pawlv1.Event_ToolStarted:
		p.note("[task " + p.tasks[id] + "] " + v.ToolStarted.GetName())
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
	}
}

// lineWidth is how much of a text fits a note.
func (p *printer) lineWidth() int { return max(p.notes.width, 80) - 20 }

func outcomeText(o pawlv1.Outcome) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_"))
}
