package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	maxProto = 3 // the second one knows Spec.Stdin and Spec.Tied, the third one Spec.Input
	minProto = 1
	maxFrame = 16 << 20
)

// Kinds of messages. The keeper greets first; requests carry a seq that their reply repeats; events have none.
const (
	kindHello  = "hello"
	kindStart  = "start"
	kindAttach = "attach"
	kindKill   = "kill"
	kindForget = "forget"
	kindRetire = "retire"
	kindReply  = "reply"
	kindEvent  = "event"
)

// message is every frame: a 4-byte big-endian length, then this as JSON.
type message struct {
	Kind  string        `json:"kind"`
	Seq   uint64        `json:"seq,omitempty"`
	ID    string        `json:"id,omitempty"`
	Hello *hello        `json:"hello,omitempty"`
	Spec  *Spec         `json:"spec,omitempty"`
	Grace time.Duration `json:"grace,omitempty"`
	State *state        `json:"state,omitempty"`
	Err   *wireError    `json:"err,omitempty"`
}

type hello struct {
	Proto    int    `json:"proto"`
	MinProto int    `json:"min_proto"`
	Version  string `json:"version"`
	PID      int    `json:"pid,omitempty"`
	// Keeper names the keeper's process.
	Keeper string `json:"keeper,omitempty"`
}

// Spec is a command as the keeper runs it. Bytes, not strings: JSON strings would change what is not UTF-8.
type Spec struct {
	Argv    [][]byte      `json:"argv"`
	Dir     []byte        `json:"dir"`
	Env     [][]byte      `json:"env"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Keep    bool          `json:"keep,omitempty"`
	// Stdin is the path of the command's input, a named pipe that somebody has open; empty is the null device.
	Stdin []byte `json:"stdin,omitempty"`
	// Input is the whole of the command's input, in place of Stdin.
	Input []byte `json:"input,omitempty"`
	// Tied ends the command, and forgets it, when the daemon that started it is gone.
	Tied bool `json:"tied,omitempty"`
}

// proto is the lowest protocol that knows what a command asks for.
func (s *Spec) proto() int {
	switch {
	case s == nil:
		return minProto
	case len(s.Input) > 0:
		return 3
	case s.Tied || len(s.Stdin) > 0:
		return 2
	}
	return minProto
}

// state is what the keeper knows of a command. End is nil while it runs.
type state struct {
	ID     string `json:"id"`
	Stdout int64  `json:"stdout,omitempty"`
	Stderr int64  `json:"stderr,omitempty"`
	End    *end   `json:"end,omitempty"`
}

// end is sandbox.Exit in the journal and on the wire.
type end struct {
	Code        int   `json:"code"`
	Signal      int   `json:"signal,omitempty"`
	TimedOut    bool  `json:"timed_out,omitempty"`
	Killed      bool  `json:"killed,omitempty"`
	Interrupted bool  `json:"interrupted,omitempty"`
	Confirmed   bool  `json:"confirmed,omitempty"`
	Leftovers   int   `json:"leftovers,omitempty"`
	Stdout      int64 `json:"stdout,omitempty"`
	Stderr      int64 `json:"stderr,omitempty"`
	StdoutCut   int64 `json:"stdout_cut,omitempty"`
	StderrCut   int64 `json:"stderr_cut,omitempty"`
	// StdoutError and StderrError say why a stream was not captured as it should be.
	StdoutError string `json:"stdout_error,omitempty"`
	StderrError string `json:"stderr_error,omitempty"`
	Started     int64  `json:"started"`
	Ended       int64  `json:"ended"`
}

func (e *end) exit() sandbox.Exit {
	return sandbox.Exit{
		Code: e.Code, Signal: e.Signal, TimedOut: e.TimedOut, Killed: e.Killed, Interrupted: e.Interrupted,
		Confirmed: e.Confirmed, Leftovers: e.Leftovers,
		StdoutBytes: e.Stdout, StderrBytes: e.Stderr, StdoutCut: e.StdoutCut, StderrCut: e.StderrCut,
		StdoutError: e.StdoutError, StderrError: e.StderrError,
		Started: time.Unix(0, e.Started), Ended: time.Unix(0, e.Ended),
	}
}

type wireError struct {
	Reason string `json:"reason"`
	Text   string `json:"text"`
}

// reasons are the errors that keep their identity on the way to the daemon.
var reasons = map[string]*errs.Error{}

func init() {
	for _, e := range []*errs.Error{
		sandbox.ErrNotFound, sandbox.ErrNotDir, sandbox.ErrPermission, sandbox.ErrNoSpace, sandbox.ErrTooLarge,
		sandbox.ErrInvalidArg, sandbox.ErrUnavailable, sandbox.ErrUnknownExec, sandbox.ErrInterrupted,
	} {
		reasons[e.Reason()] = e
	}
}

func toWire(err error) *wireError {
	if e, ok := errs.Public(err); ok {
		return &wireError{Reason: e.Reason(), Text: err.Error()}
	}
	return &wireError{Text: err.Error()}
}

func (w *wireError) err() error {
	if e, ok := reasons[w.Reason]; ok {
		return e.With("%s", w.Text)
	}
	return errors.New("keeper: " + w.Text)
}

func writeMessage(w io.Writer, m *message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding a %s message: %w", m.Kind, err)
	}
	if len(body) > maxFrame {
		return sandbox.ErrTooLarge.With("a %s message of %d bytes exceeds %d", m.Kind, len(body), maxFrame)
	}
	frame := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

func readMessage(r io.Reader) (*message, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("reading a message: %d bytes exceed the frame limit", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	m := new(message)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("reading a message: %w", err)
	}
	return m, nil
}
