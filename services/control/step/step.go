// Package step is the durable record of a step of a run.
//
//	started ──▶ completed | failed | cancelled | unknown
//	   │ ▲
//	   └─┘ another try, after a pause                       skipped is recorded at once
//
// Invariants: a record that has ended never changes, but for Retry of a run, which takes the records back from which it
// goes on; a step is recorded in the commit that tells of it, by the owner of the run's lane; what is to happen at a
// time is a duration when it is written, and what is left of it when it is read, by the platform's clock.
package step

import (
	"encoding/json"
	"errors"
	"time"
)

// Failures of writing and reading records. Each is a bug, or damage: the run that has it is interrupted.
var (
	// ErrEnded refuses to change the record of a step that has ended.
	ErrEnded = errors.New("the record of a step that has ended does not change")
	// ErrTaken refuses a signal that another step has received, or that is not there.
	ErrTaken = errors.New("another step has received the signal")
	// ErrUnreadable says that a record cannot be read, so that nobody knows how the run goes on.
	ErrUnreadable = errors.New("the record of a step cannot be read")
)

// State of a step.
type State uint8

// States, as numbered in the database.
const (
	Started State = iota + 1
	Completed
	Failed
	Skipped
	Cancelled
	Unknown // nobody knows what it has done
)

// Ended reports whether the state is final.
func (s State) Ended() bool { return s > Started }

// String names the state as expressions, events and the API do.
func (s State) String() string {
	return [...]string{"", "started", "completed", "failed", "skipped", "cancelled", "unknown"}[s]
}

// Failure is why a step did not complete.
type Failure struct {
	Reason  string `json:"reason"` // a word for programs, in lower case
	Message string `json:"message"`
	Step    string `json:"step,omitempty"` // the path of the step that has failed first, if that is another
}

// MaxOutput bounds the output of one step, in bytes of JSON.
const MaxOutput = 16 << 20

// PageBytes is how many bytes of outputs are read at once, but for the last one of them.
const PageBytes = 4 << 20

// Never is the time left of what has no end.
const Never = time.Duration(1<<63 - 1)

// Record is one step of a run, with a field for each column.
type Record struct {
	// Ord counts the steps of a run from 1, in the order in which they began. The calls that a step makes have it as
	// their turn.
	Ord int
	// Parent is the step that it is part of: a foreach, an item of one, a branch, a round, a group; 0 for none.
	Parent int
	// Path names the step within the run, such as "reviews[3].review". It is unique.
	Path  string
	Kind  string
	State State
	// Try counts from 1. Pausing says that it has ended, and that the step waits.
	Try     int
	Pausing bool
	// Took is how long the tries took, on the clock of whoever carried them out.
	Took   time.Duration
	Output json.RawMessage // nil unless it has completed
	Failed *Failure        // of the last try; nil if there is none
	// Ref is what carries the step out: the id of a run, or of a submission; "" for none.
	Ref string
	// Wait is, when it is written, how long it is until something of the step is due: the end of a sleep, a timeout,
	// the next try; Never for nothing. At, when it is not zero, says it as a time instead. When it is read, Left is how
	// much of that was left, which may be negative.
	Wait time.Duration
	At   time.Time
	Left time.Duration
	// Folds says that the steps that are part of it so far are not needed to go on, because it tells what they came to.
	// They are not read to go on any more.
	Folds     bool
	StartedAt time.Time // for people
	EndedAt   time.Time
}

// Signal is what somebody has told a run.
type Signal struct {
	Seq  int64 // within the run, in order of arrival
	Name string
	// MessageID tells repetitions of one signal; "" is none.
	MessageID string
	Body      json.RawMessage
	By        string // for people
	At        time.Time
	TakenBy   string // path of the step that has received it, "" for none
}

// Taken says that a step has received a signal.
type Taken struct {
	Seq  int64
	Path string
}

// Bounds of signals that a run has not received yet.
const (
	MaxSignals     = 1000
	MaxSignalBytes = 1 << 20
)
