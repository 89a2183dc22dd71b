// Package check decides whether what a control plane left behind, after every fault that was thrown at it, is what it
// promised. It is pure: evidence in, violations out.
//
//	what was asked (Prompts, Acks) ┐
//	what the database says         ├──Check──▶ Violations, by invariant of the design (I1 to I10)
//	what readers, journals, files  │
//	and processes show             ┘
package check

import (
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Evidence is everything that is known at the end.
type Evidence struct {
	Prompts     map[string]*Prompt // by id
	Acks        []Ack
	Conflicts   []string // prompts whose key was accepted again with another message
	Unheard     []string // prompts whose clients never got an answer, however often they asked
	Submissions []Submission
	Settlings   []Settling
	Owners      []Owner // in the order in which they were written
	Sessions    map[string]*Session
	Calls       []Call
	Rewrites    []string            // calls whose outcome was changed after it was recorded, and how
	Effects     map[string][]string // by session: the tokens in its file, in order
	Files       map[string]string   // that were edited, by the token of the edit
	Journals    []Journal
	Readers     []string // what a reader saw that it must not
	Survivors   []Survivor
	Absences    []Absence
	Crashes     []string // panics and data races in the logs
	Approvals   []Approval
	Decisions   []Decision
	Began       map[string][]float64 // by token of a command about which a rule asks: when it began, see Approval
	Compactions []string             // submissions that were acknowledged as summaries
	// Spoiled are the submissions, by id, that may have met a row that the run has made undecodable.
	Spoiled map[string]bool
}

// Prompt is what a client asks for.
type Prompt struct {
	ID      string
	Session string
	Key     string // "" is none: it is sent once
	Turns   [][]Command
}

// Command is one tool call as it was asked for: what it leaves, prints and exits with.
type Command struct {
	Token  string
	Tool   string    // "" is bash, else write, edit or task
	Output [2]string // stdout, stderr
	Exit   int
	Stays  bool        // it leaves a process in the background
	Turns  [][]Command // of a task: what its sub-agent is asked for
	Gate   string      // what a rule says of it, see GateNever; "" is nothing
}

// Mark is what an edit adds to its file.
const Mark = "+"

// Ack is an answer that a client got: the prompt was admitted. Outcome and Text are set when the answer was the
// settlement.
type Ack struct {
	Prompt     string
	Submission string // "" when the answer did not tell
	Outcome    string
	Text       string
}

// Submission is a row: a submission, which is the root of a tree of loops, or the loop of a sub-agent.
type Submission struct {
	ID, Session, Prompt string // Prompt is the root's
	Root                string // id of the root; its own if it is that
	ParentCall          string // the task call that a sub-agent's loop answers, "" for the root
	Seq                 int64
	Settled             bool
	Started             bool
	Outcome, Reason     string
	Confirmed           bool // its settlement says that nothing of it runs any more
	ResultEntry         int64
	Usage               int64  // tokens that it says it has cost, its sub-agents' included
	Spent               int64  // tokens by the records of its own model calls
	Where               string // for one that hangs: all that tells why
	Host                string // what it has joined, "" for none
	Urgent              bool   // it went before what was queued
	Compacts            bool   // it asks for a summary of the conversation
}

// Approval is a row, with what a trigger saw of it.
type Approval struct {
	ID, Call string
	State    string
	Writes   []string // the states that were written, in order
	Decided  float64  // when the first of them was, in seconds since this host was started
}

// Decision is what somebody wanted to decide, and was told.
type Decision struct {
	Approval string
	Verdict  string // "approved" or "denied"
	Told     string // the state that the answer told, "" while there is none
	First    bool   // the answer said that this was the decision, and no repetition of it
}

// IsRoot reports whether it is a submission rather than a sub-agent's loop.
func (s *Submission) IsRoot() bool { return s.ParentCall == "" }

// Settling is a write to a submission's outcome, as a trigger saw it.
type Settling struct {
	Submission string
	Again      bool // it had been settled before
}

// Owner is a change of a lane's ownership, as a trigger saw it under the lane's lock.
type Owner struct {
	Session   string // at the root of the lane
	Epoch     int64
	From, To  string // "" is nobody
	FromLives bool   // whether From's lease still held, and it had not failed to end what it was to end
	EventHead int64
}

// Session is what a conversation is made of. That of a sub-agent has no lane and no stream of its own.
type Session struct {
	ID         string
	Lane       string // name of the session at the root of the tree; its own if it is that
	ParentCall string // the task call that it is for, "" for the root
	Entries    []Entry
	Segments   []Segment
	EntryHead  int64
	EventHead  int64
	Epoch      int64
}

// Entry is one of a session.
type Entry struct {
	Seq        int64
	Submission string
	Kind       string
	Message    model.Message
}

// Segment is events that were committed together.
type Segment struct {
	First, Last int64
	Epoch       int64
	Events      []event.Event
}

// Call is a record of a tool call. Token is found in the entry that asked for it.
type Call struct {
	ID, Session, Token string // Session is the conversation that it is in
	Provider           string
	Loop               string // the submission that asked for it
	Turn               int
	AtMostOnce         bool
	State              call.State
	Executor           string
	LateReply          bool
	Created, Done      time.Time
}

// Journal is what an executor remembers.
type Journal struct {
	Executor string
	Epochs   map[string]int64 // by session id
	Calls    []JournalCall
}

// JournalCall is one call in a journal.
type JournalCall struct {
	ID       string
	Epoch    int64
	Finished bool // its outcome is there and was not acknowledged
}

// Survivor is a process that was found although its call had ended.
type Survivor struct {
	Call string
	What string
}

// Absence is a time in which an executor could lose an outcome: its keeper was killed, or it was away for long.
type Absence struct {
	Executor  string
	From, To  time.Time
	EditsOnly bool // its daemon was killed: commands live on, what it does itself does not
}

// Violation is a promise that was broken.
type Violation struct {
	Invariant string
	Where     string
	What      string
}

// Invariants are what is checked, in the order in which they are reported. I0 is that the programs do not crash.
var Invariants = []string{"I0", "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10"}
