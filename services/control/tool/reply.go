package tool

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
)

// Reply is what a call came to, by value: an executor's answer, a sub-agent's, a function's, or a Failure. Its JSON is
// what a store keeps.
type Reply interface {
	// Clean is the reply as it may be kept and shown, without secrets. It does not change the receiver.
	Clean(c Cleaner) Reply
}

// Ending is how a call ended.
type Ending uint8

// EndingOf is how the call ended that a reply answers: Finished, unless the reply has a method Ending that says
// otherwise.
func EndingOf(r Reply) Ending {
	if e, ok := r.(interface{ Ending() Ending }); ok {
		return e.Ending()
	}
	return Finished
}

// Endings.
const (
	Finished  Ending = iota
	Cancelled        // it was made to end before it had an outcome
	Unseen           // nobody saw its end: whether to run it again is decided by its safety
)

// Process is a Reply of a call that ran processes, whose output was streamed while they ran.
type Process interface {
	Reply
	// Written is how many bytes standard output and standard error had, as far as they can be read.
	Written() [2]int64
	// Unreadable reports whether a part of the output cannot be read: it will never come.
	Unreadable() bool
	// Over reports whether it is confirmed that no process is left.
	Over() bool
}

// Worded is a Reply in words, for who has room for all of them: what models are shown of it is bounded.
type Worded interface {
	Reply
	// Words are the whole text, and the same as JSON if the reply has that, "" if not.
	Words() (text, data string)
}

// Leaves reports whether a reply says that processes of the call may be left.
func Leaves(r Reply) bool {
	p, ran := r.(Process)
	return ran && !p.Over()
}

// Failure answers any request that could not be carried out.
type Failure struct {
	Reason  string
	Message string
}

// Reasons of a Failure that are treated apart. All others are told as they are.
const (
	// ReasonInterrupted: the call was begun and nobody saw its end. Its outcome is unknown.
	ReasonInterrupted = "INTERRUPTED"
	// ReasonCancelled: the call was cancelled before it had an outcome.
	ReasonCancelled = "CANCELLED"
)

// Clean implements Reply.
func (f Failure) Clean(c Cleaner) Reply {
	f.Message = c.Text(plain(c.Text(f.Message)))
	return f
}

// Ending is what the reason says.
func (f Failure) Ending() Ending {
	switch f.Reason {
	case ReasonCancelled:
		return Cancelled
	case ReasonInterrupted:
		return Unseen
	}
	return Finished
}

// LogValue implements slog.LogValuer.
func (f Failure) LogValue() slog.Value {
	return slog.GroupValue(slog.String("reason", f.Reason), slog.String("error", f.Message))
}

// Answer is a reply in words: a sub-agent's last text, what a function of control has to say.
type Answer struct {
	Text    string
	Data    json.RawMessage   `json:",omitempty"` // a structured result; nil is none
	Details map[string]string // for clients
}

// Clean implements Reply.
func (a Answer) Clean(c Cleaner) Reply {
	a.Text, a.Data = c.Text(a.Text), c.JSON(a.Data)
	return a
}

// Words implements Worded.
func (a Answer) Words() (text, data string) { return a.Text, "" }

// Closing is a reply that ends the loop whose call it answers: with a result, or without one. Of several calls of one
// answer the first that is answered so counts.
type Closing struct {
	Data   json.RawMessage `json:",omitempty"` // the result; nil is none
	GaveUp string          `json:",omitempty"` // why there is none
}

// Clean implements Reply.
func (c Closing) Clean(w Cleaner) Reply {
	c.GaveUp = w.Text(plain(w.Text(c.GaveUp)))
	c.Data = w.JSON(c.Data)
	return c
}

// Show implements Shown.
func (c Closing) Show() Result {
	if c.Data != nil {
		return Result{Text: "The result was accepted."}
	}
	return Result{Text: "Noted: there is no result."}
}

// envelope is the stored form of a reply: one of both.
type envelope struct {
	Failure *Failure        `json:"failure,omitempty"`
	Reply   json.RawMessage `json:"reply,omitempty"`
	Type    string          `json:"type,omitempty"` // of Reply, one of replyTypes; "" is known to the tool alone
}

// replyTypes are the replies of this package by the names of their types, which are stored; replyNames are these.
var (
	replyTypes = map[string]func([]byte) (Reply, error){}
	replyNames = map[reflect.Type]string{}
)

func init() {
	stored[TextReply]()
	stored[FileReply]()
	stored[WriteReply]()
	stored[EditReply]()
	stored[ExecReply]()
	stored[GrepReply]()
	stored[GlobReply]()
	stored[Answer]()
	stored[Closing]()
	stored[Said]()
	stored[ServerReply]()
}

func stored[R Reply]() {
	t := reflect.TypeFor[R]()
	replyTypes[t.Name()], replyNames[t] = decodeReply[R], t.Name()
}

func decodeReply[R Reply](body []byte) (Reply, error) {
	var r R
	err := json.Unmarshal(body, &r)
	return r, err
}

// Encode is the stored form of a reply. Set.Decode reads it.
func Encode(r Reply) ([]byte, error) {
	var e envelope
	var err error
	if f, failed := r.(Failure); failed {
		e.Failure = &f
	} else if e.Reply, err = json.Marshal(r); err != nil {
		return nil, fmt.Errorf("encoding a reply: %w", err)
	}
	if e.Failure == nil {
		e.Type = replyNames[reflect.TypeOf(r)]
	}
	return json.Marshal(e)
}
