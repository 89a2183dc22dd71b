package work

import (
	"context"
	"fmt"
	"regexp"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// verb is what a call does, as far as it makes a difference to the bookkeeping.
type verb uint8

const (
	verbPlain verb = iota
	verbExec
	verbReadFile
	verbWriteChunked
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// understand checks what must hold of any Execute.
func understand(e *pawlv1.Execute) (verb, error) {
	if !idPattern.MatchString(e.GetCallId()) {
		return 0, fmt.Errorf("call id %q: want 1 to 64 of A-Z a-z 0-9 _ -", e.GetCallId())
	}
	loose := e.GetLaneId() == ""
	if e.GetTimeout() != nil && e.GetTimeout().AsDuration() < 0 {
		return 0, fmt.Errorf("the timeout %v is negative", e.GetTimeout().AsDuration())
	}
	switch v := e.GetVerb().(type) {
	case nil:
		return 0, fmt.Errorf("this executor does not know the verb of the call")
	case *pawlv1.Execute_CallTool:
		return 0, fmt.Errorf("this executor offers no tools: it has none named %q", v.CallTool.GetName())
	case *pawlv1.Execute_Exec:
		if loose && v.Exec.GetKeep() {
			return 0, fmt.Errorf("a command of no lane leaves nothing running")
		}
		if err := understandInput(v.Exec, loose); err != nil {
			return 0, err
		}
		return verbExec, nil
	case *pawlv1.Execute_ReadFile:
		if !loose {
			return 0, fmt.Errorf("only a call of no lane can be a ReadFile")
		}
		return verbReadFile, nil
	case *pawlv1.Execute_WriteFile:
		if v.WriteFile.GetChunked() && !loose {
			return 0, fmt.Errorf("only a call of no lane can be a chunked write")
		}
		if err := understandContent(v.WriteFile); err != nil {
			return 0, err
		}
		if v.WriteFile.GetChunked() {
			return verbWriteChunked, nil
		}
	}
	return verbPlain, nil
}

// understandContent checks what is to be written.
func understandContent(w *pawlv1.WriteFile) error {
	switch {
	case w.GetArchive() != 0 && (!w.GetChunked() || w.GetCondition() != nil || w.Mode != nil):
		return fmt.Errorf("an archive comes in chunks, without a condition and a mode")
	case w.GetMode() > 0o777:
		return fmt.Errorf("the mode %#o has more than permission bits", w.GetMode())
	case len(w.GetContent()) > maxWhole:
		return fmt.Errorf("the content has %d bytes, at most %d are possible unless it comes in chunks",
			len(w.GetContent()), maxWhole)
	}
	return nil
}

// understandInput checks the input of a command.
func understandInput(x *pawlv1.Exec, loose bool) error {
	switch {
	case !loose && x.GetStdin():
		return fmt.Errorf("only a command of no lane can have input in frames")
	case x.GetWhole() && x.GetStdoutImage():
		return fmt.Errorf("a command has its output whole or as an image, not both")
	case x.GetStdin() && len(x.GetInput()) > 0:
		return fmt.Errorf("a command has its input in frames or whole, not both")
	case len(x.GetInput()) > sandbox.MaxInput:
		return fmt.Errorf("the input has %d bytes, at most %d are possible", len(x.GetInput()), sandbox.MaxInput)
	}
	return nil
}

// call is a call from its start until its result was acknowledged. Fields below mu's line belong to Service.mu.
type call struct {
	begin journal.Begin
	verb  verb
	exec  *pawlv1.Execute // nil after a restart
	ctx   context.Context // ends with cancel, the deadline or the service; not for commands
	stop  context.CancelFunc
	ended chan struct{}

	// mu
	content
	cancellation
	progress
	epoch    int64 // of the newest owner that asked for it
	accepted bool
	orphan   bool // a loose call whose connection is gone: nobody wants its result
	ex       sandbox.Exec
	src      source
	feed     feed
}

// content is the bytes of a file that pass through a call.
type content struct {
	in   *intake   // of a chunked write, or of a command that has input
	file fileFacts // of the file that a ReadFile has open
}

// cancellation is that control has asked for the end of a call.
type cancellation struct {
	cancelled bool
	grace     time.Duration // from TERM to KILL
}

// progress is how far a call is, and what it came to.
type progress struct {
	state  journal.State
	result *pawlv1.Result // nil while running, and when only the journal has it
	kept   bool           // the journal has it
	acked  bool           // control has it, and the journal does not say so yet
}

// release closes what a call holds in this process.
func (c *call) release() {
	if c.stop != nil {
		c.stop()
	}
	if c.src != nil {
		c.src.close()
	}
	c.feed.stopLinger()
}

func (c *call) id() string { return c.begin.CallID }

// loose reports whether the call is of no lane: it is never recorded and ends with its connection.
func (c *call) loose() bool { return c.begin.LaneID == "" }

// running reports whether the call still takes a slot.
func (c *call) running() bool { return c.state == journal.Begun }

func (c *call) streams() []pawlv1.Stream {
	switch c.verb {
	case verbExec:
		return execStreams
	case verbReadFile:
		return fileStreams
	}
	return nil
}

var (
	execStreams = []pawlv1.Stream{pawlv1.Stream_STREAM_STDOUT, pawlv1.Stream_STREAM_STDERR}
	fileStreams = []pawlv1.Stream{pawlv1.Stream_STREAM_FILE}
)

// head is the part of a Result that every call has.
func (c *call) head() *pawlv1.Result {
	return &pawlv1.Result{CallId: c.id(), LaneId: c.begin.LaneID, Epoch: c.begin.Epoch}
}

// adopt gives the call to a newer owner.
func (c *call) adopt(epoch int64) { c.epoch = max(c.epoch, epoch) }
