package ask

import (
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Worked is what an agent, or another run, came to, with a field for each thing that a step can see of it.
type Worked struct {
	ID           string          // of the submission, or of the run
	Outcome      lane.Outcome    // "" of what nobody waits for
	Text         string          // that the agent said last
	Data         json.RawMessage // the agent's structured result, or the run's output; nil is none
	Session      string          // the name of the conversation
	Usage        model.Usage
	Reason       string // unless it has completed
	Message      string
	Cancellation *call.Cancellation // what is known of the calls of one that was aborted; nil is that there were none
}

// Answered is the outcome of a step by what an agent or a run came to: of a drive.Prompt, drive.Skill, drive.Dispatch
// or drive.Workflow. Of a step that does not wait it is that of its ID.
func Answered(request any, w Worked) drive.Outcome {
	switch q := request.(type) {
	case drive.Dispatch:
		if !q.Step.Wait {
			return drive.Dispatched(w.ID)
		}
	case drive.Workflow:
		if !q.Step.Wait {
			return drive.Started(w.ID)
		}
	}
	switch w.Outcome {
	case lane.Completed:
		return completed(request, w)
	case lane.Aborted:
		return Stopped(w.Cancellation)
	case lane.Expired:
		return failed(drive.ReasonTimeout, w.why("it took longer than it may"))
	case lane.Failed, lane.Interrupted:
	}
	return failed(reason(w.Reason, drive.ReasonFailed), w.why(fmt.Sprintf("it has ended as %s", w.Outcome)))
}

// why is what is said of the end, or else.
func (w Worked) why(otherwise string) string {
	if said := clip.Shorten(clip.Sanitize(w.Message), maxWhy); said != "" {
		return said
	}
	return otherwise
}

func completed(request any, w Worked) drive.Outcome {
	switch q := request.(type) {
	case drive.Prompt:
		return drive.Said(q.Step.Result, w.Text, w.Session, w.Usage, w.Data)
	case drive.Skill:
		return drive.Said(q.Step.Result, w.Text, w.Session, w.Usage, w.Data)
	case drive.Dispatch:
		return drive.Replied(q.Step, w.ID, w.Text, w.Data)
	case drive.Workflow:
		return drive.Returned(w.ID, w.Data)
	}
	return drive.Outcome{State: step.Failed, Failed: &step.Failure{
		Reason: drive.ReasonFailed, Message: fmt.Sprintf("a step that asks for a %T waits for nobody", request),
	}}
}
