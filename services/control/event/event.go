// Package event is streams: ordered logs that clients tail and resume.
//
// Every session has one. Its events are appended by the owner of the session's lane only, in the same transaction as the facts
// that they tell, and published to watchers after the commit, so that a cursor never points past the log.
//
//	started (text|thinking|restarted|entry|tool_started|tool_output|tool_finished)* settled     per submission
//
// Invariants: seq is dense from 1; every reader sees the same prefix; a slow reader never slows the writer.
package event

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Type of an event.
type Type string

// Types of event, with the fields that they use.
const (
	Started      Type = "started"       // EntrySeq: the input
	EntryAdded   Type = "entry"         // EntrySeq
	Text         Type = "text"          // Text
	Thinking     Type = "thinking"      // Text
	Restarted    Type = "restarted"     // Reason, Text
	ToolStarted  Type = "tool_started"  // Call
	ToolOutput   Type = "tool_output"   // Call.ID, Output
	ToolFinished Type = "tool_finished" // Call
	Settled      Type = "settled"       // Settlement
)

// Event is one item of a stream. Seq is its position; the stored form leaves it out, as it leaves out Entry and
// Settlement.Text, which are read from the session's entries.
type Event struct {
	Seq          int64          `json:"-"`
	Time         time.Time      `json:"t"`
	SubmissionID string         `json:"s,omitempty"`
	Turn         int            `json:"n,omitempty"`
	Type         Type           `json:"e"`
	EntrySeq     int64          `json:"q,omitempty"`
	Entry        *session.Entry `json:"-"`
	Text         string         `json:"x,omitempty"`
	Reason       string         `json:"r,omitempty"`
	Call         *Call          `json:"c,omitempty"`
	Output       *Output        `json:"o,omitempty"`
	Settlement   *Settlement    `json:"z,omitempty"`
}

// Call is what events tell of a tool call.
type Call struct {
	ID         string        `json:"id"`
	ProviderID string        `json:"pid,omitempty"`
	Tool       string        `json:"tool,omitempty"`
	Executor   string        `json:"ex,omitempty"`
	State      string        `json:"st,omitempty"`
	IsError    bool          `json:"err,omitempty"`
	Duration   time.Duration `json:"dur,omitempty"`
}

// Output is a piece of a command's output.
type Output struct {
	Stderr bool   `json:"e,omitempty"`
	Offset int64  `json:"o,omitempty"`
	Data   []byte `json:"d"`
}

// Settlement is how a submission ended.
type Settlement struct {
	Outcome  string      `json:"outcome"`
	Reason   string      `json:"reason,omitempty"`
	Message  string      `json:"message,omitempty"`
	Model    string      `json:"model,omitempty"`
	Usage    model.Usage `json:"usage"`
	EntrySeq int64       `json:"q,omitempty"` // the assistant entry that holds the answer
	Text     string      `json:"-"`
	Turn     int         `json:"n,omitempty"`
	// Cancellation is set when the submission was made to end.
	Cancellation *call.Cancellation `json:"c,omitempty"`
}

// Store reads streams. Events are appended by commits, see package submission.
type Store interface {
	// Events returns at most limit events with seq > after, in order, without Entry and Settlement.Text.
	Events(ctx context.Context, sessionID string, after int64, limit int) ([]Event, error)
	// EventHeads returns the seq of the last event for each of the sessions.
	EventHeads(ctx context.Context, sessionIDs []string) (map[string]int64, error)
}
