// Package files reads and writes files of an executor, and runs commands there, for a client who waits.
//
// A transfer is one such request: a call of no session (see Connect in proto/pawl/v1). It is not recorded anywhere. It
// is sent once and lives as long as its client waits and its connection lasts:
//
//	sent ──Accepted──▶ open ──Output* or Input*──▶ ended: Result, Rejected, or the connection was lost
//	  └──the client leaves──▶ left: a Cancel is sent; what still comes is dropped until the executor has ended the call
//
// Memory is bounded in both directions by Welcome.window. The executor may send that much more than the client has
// taken, else the transfer fails. The client's content is sent only as far as the executor has acknowledged it, less
// that much.
package files

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
)

const (
	// Limit is how many transfers run at once on one connection.
	Limit = 32
	// StallLimit is how long a client may neither send nor take anything.
	StallLimit = 2 * time.Minute
	// MaxFrame bounds the bytes in one Input or Output.
	MaxFrame = 256 << 10
)

// Request is a verb on the files of an executor. Its functions may be called by another goroutine than Do's, one at a
// time, and may outlast Do: they must end when the client's RPC does.
type Request struct {
	Executor string
	Verb     *pawlv1.Execute // verb, cwd and environment; Do fills in the rest
	// Next is the next piece of the content of a chunked WriteFile, or of a command's input, up to and including the
	// one that is last.
	Next func() (*pawlv1.Input, error)
	// Opened and Take are what a ReadFile or an Exec gives: that it has begun, and then the bytes.
	Opened func(Facts) error
	Take   func(s pawlv1.Stream, data []byte) error
}

// Facts are what is known of a whole file that is read, before any of it is. Of a command there are none.
type Facts struct {
	Size   *int64 // nil is unknown
	Sha256 []byte // empty is unknown
}

// Transfers are those of one connection. All methods may be called concurrently.
type Transfers struct {
	send func(*pawlv1.ConnectResponse) bool
	more func()

	mu      sync.Mutex // guards what follows
	over    bool
	running map[string]*transfer // until the executor has ended them
	content []*pawlv1.Input      // of all transfers; each has at most a window in it
}

// New makes the Transfers of a connection. send queues a frame without blocking and is false when the connection has
// ended. more says that Next has something to send.
func New(send func(*pawlv1.ConnectResponse) bool, more func()) *Transfers {
	return &Transfers{send: send, more: more, running: map[string]*transfer{}}
}

// Do runs a verb over the connection and waits for its result, or for the end of ctx, which cancels the verb. Errors:
// ErrAway when nothing was done, ErrOutcome when nobody knows, ErrBusy beyond Limit, and those of the executor.
func (s *Transfers) Do(ctx context.Context, q *Request) (*pawlv1.Result, error) {
	t, err := s.begin(q.Verb)
	if err != nil {
		return nil, err
	}
	defer s.leave(t)
	return s.pass(ctx, t, q)
}

// begin sends the verb as a call of no session.
func (s *Transfers) begin(verb *pawlv1.Execute) (*transfer, error) {
	x := &pawlv1.Execute{
		CallId: ident.New(), Dispatch: 1, Safety: safety(verb), Cwd: verb.GetCwd(), Verb: verb.GetVerb(),
		Env: verb.GetEnv(), UnsetEnv: verb.GetUnsetEnv(),
	}
	body, err := proto.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("encoding a call: %w", err)
	}
	sum := sha256.Sum256(body)
	x.ArgsSha256 = sum[:]
	t := newTransfer(x)
	if err := s.add(t); err != nil {
		return nil, err
	}
	if !s.send(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: x}}) {
		s.remove(t)
		return nil, ErrAway
	}
	return t, nil
}

func safety(verb *pawlv1.Execute) pawlv1.Safety {
	switch verb.GetVerb().(type) {
	case *pawlv1.Execute_WriteFile:
		return pawlv1.Safety_SAFETY_IDEMPOTENT
	case *pawlv1.Execute_MakeDir, *pawlv1.Execute_Remove, *pawlv1.Execute_Exec:
		return pawlv1.Safety_SAFETY_AT_MOST_ONCE
	}
	return pawlv1.Safety_SAFETY_PURE
}

func (s *Transfers) add(t *transfer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return ErrAway
	case len(s.running) >= Limit:
		return ErrBusy
	}
	s.running[t.id] = t
	return nil
}

func (s *Transfers) remove(t *transfer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, t.id)
}

// leave ends a transfer for its client. One that the executor has not ended is cancelled and stays until it has.
func (s *Transfers) leave(t *transfer) {
	t.leave()
	s.mu.Lock()
	_, running := s.running[t.id]
	s.content = slices.DeleteFunc(s.content, func(in *pawlv1.Input) bool { return in.GetCallId() == t.id })
	s.mu.Unlock()
	if running {
		s.send(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Cancel{Cancel: &pawlv1.Cancel{CallId: t.id}}})
	}
}

// Hear takes a frame that is about a transfer; false when it is about something else. It never blocks.
func (s *Transfers) Hear(req *pawlv1.ConnectRequest) bool {
	s.mu.Lock()
	t := s.running[subject(req)]
	if t != nil && ends(req) {
		// Before the client hears of the end: it would cancel what it still finds here.
		delete(s.running, t.id)
	}
	s.mu.Unlock()
	if t == nil {
		return false
	}
	t.hear(req)
	if req.GetResult() != nil {
		s.send(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_ResultAck{
			ResultAck: &pawlv1.ResultAck{CallId: t.id},
		}})
	}
	return true
}

// ends reports whether a frame is the last one about its call.
func ends(req *pawlv1.ConnectRequest) bool { return req.GetResult() != nil || req.GetRejected() != nil }

// subject is the call that a frame is about, "" for none.
func subject(req *pawlv1.ConnectRequest) string {
	switch f := req.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Accepted:
		return f.Accepted.GetCallId()
	case *pawlv1.ConnectRequest_Rejected:
		return f.Rejected.GetCallId()
	case *pawlv1.ConnectRequest_Output:
		return f.Output.GetCallId()
	case *pawlv1.ConnectRequest_InputAck:
		return f.InputAck.GetCallId()
	case *pawlv1.ConnectRequest_Result:
		return f.Result.GetCallId()
	}
	return ""
}

// Next is a piece of content to send when the connection has nothing else to send, nil for none.
func (s *Transfers) Next() *pawlv1.ConnectResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.content) == 0 {
		return nil
	}
	in := s.content[0]
	s.content[0] = nil
	s.content = s.content[1:]
	return &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Input{Input: in}}
}

// Held is how many transfers run, and how many bytes wait for their clients and for the executor.
func (s *Transfers) Held() (running, output, input int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.running {
		output += t.waiting()
	}
	for _, in := range s.content {
		input += len(in.GetData())
	}
	return len(s.running), output, input
}

// Close ends all transfers because the connection has ended. No further one begins.
func (s *Transfers) Close() {
	s.mu.Lock()
	s.over = true
	all := s.running
	s.running, s.content = map[string]*transfer{}, nil
	s.mu.Unlock()
	for _, t := range all {
		t.lose()
	}
}
