package files

import (
	"errors"
	"slices"
	"strings"
	"sync"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/call"
)

// Failures of transfers.
var (
	ErrAway    = errs.New(errs.Unavailable, "EXECUTOR_AWAY", "the executor is not connected; try again")
	ErrOutcome = errs.New(errs.Unavailable, "OUTCOME_UNKNOWN", "the executor left and nobody knows whether it was "+
		"done: look, and decide")
	ErrBusy = errs.New(errs.ResourceExhausted, "EXECUTOR_BUSY", "the executor serves as many requests at once as "+
		"it can; nothing was done, try again")
	ErrStalled  = errs.New(errs.DeadlineExceeded, "STALLED", "the caller neither sent nor took anything for too long")
	ErrExecutor = errs.New(errs.Internal, "EXECUTOR_FAILED", "the executor failed")
)

// transfer is what the executor has said of a transfer and what it was sent. Do waits for ready and looks; the
// connection's receiver only ever adds.
type transfer struct {
	id    string
	verb  *pawlv1.Execute
	ready await.Signal

	mu     sync.Mutex // guards what follows
	open   bool       // the executor has accepted it
	facts  Facts
	chunks []chunk
	out    [streams]flow
	sent   int64 // bytes of input
	acked  int64 // of them taken by the executor
	last   bool  // all of the input was sent
	result *pawlv1.Result
	failed error
}

// streams are those of output, by their numbers.
const streams = 4

// flow is how far a stream of output is.
type flow struct {
	came  int64 // bytes
	taken int64 // of them by the client
}

// chunk is some output.
type chunk struct {
	stream pawlv1.Stream
	data   []byte
}

func newTransfer(x *pawlv1.Execute) *transfer {
	return &transfer{id: x.GetCallId(), verb: x, ready: await.NewSignal()}
}

// hear takes in a frame of the executor.
func (t *transfer) hear(req *pawlv1.ConnectRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.ready.Set()
	switch f := req.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Accepted:
		if !t.open {
			t.open, t.facts = true, Facts{Size: f.Accepted.Size, Sha256: f.Accepted.GetSha256()}
		}
	case *pawlv1.ConnectRequest_Rejected:
		t.fail(rejected(f.Rejected))
	case *pawlv1.ConnectRequest_Output:
		t.output(f.Output)
	case *pawlv1.ConnectRequest_InputAck:
		if upto := f.InputAck.GetUpto(); upto > t.sent || upto < t.acked {
			t.fail(ErrExecutor.With("it acknowledged %d bytes of %d that were sent", upto, t.sent))
		} else {
			t.acked = upto
		}
	case *pawlv1.ConnectRequest_Result:
		t.end(f.Result)
	}
}

func (t *transfer) output(o *pawlv1.Output) {
	n := int64(len(o.GetData()))
	if t.failed != nil || n == 0 {
		return
	}
	if !gives(t.verb, o.GetStream()) || !t.open || n > MaxFrame {
		t.fail(ErrExecutor.With("it sent output that was not asked for"))
		return
	}
	f := &t.out[o.GetStream()]
	switch {
	case o.GetOffset() != f.came:
		t.fail(ErrExecutor.With("it sent bytes from %d on after %d", o.GetOffset(), f.came))
	case f.came+n-f.taken > call.Window:
		t.fail(ErrExecutor.With("it sent %d bytes beyond those that were taken", f.came+n-f.taken))
	default:
		t.chunks = append(t.chunks, chunk{o.GetStream(), o.GetData()})
		f.came += n
	}
}

// gives reports whether output of a stream belongs to a verb.
func gives(verb *pawlv1.Execute, s pawlv1.Stream) bool {
	switch verb.GetVerb().(type) {
	case *pawlv1.Execute_ReadFile:
		return s == pawlv1.Stream_STREAM_FILE
	case *pawlv1.Execute_Exec:
		return s == pawlv1.Stream_STREAM_STDOUT || s == pawlv1.Stream_STREAM_STDERR
	}
	return false
}

func (t *transfer) end(r *pawlv1.Result) {
	if r.GetFailure() != nil {
		t.fail(failure(r.GetFailure()))
		return
	}
	if !answers(t.verb, r) {
		t.fail(ErrExecutor.With("it answered with a result of another kind"))
		return
	}
	for s, size := range sizes(t.verb, r) {
		if came := t.out[s].came; size != came {
			t.fail(ErrExecutor.With("it sent %d bytes of %d", came, size))
		}
	}
	if t.failed == nil {
		t.result = r
	}
}

// sizes are how much output there is in all.
func sizes(verb *pawlv1.Execute, r *pawlv1.Result) map[pawlv1.Stream]int64 {
	switch verb.GetVerb().(type) {
	case *pawlv1.Execute_ReadFile:
		return map[pawlv1.Stream]int64{pawlv1.Stream_STREAM_FILE: r.GetFile().GetSize()}
	case *pawlv1.Execute_Exec:
		x := r.GetExec()
		return map[pawlv1.Stream]int64{
			pawlv1.Stream_STREAM_STDOUT: x.GetStdout().GetSize(), pawlv1.Stream_STREAM_STDERR: x.GetStderr().GetSize(),
		}
	}
	return nil
}

// fail ends the transfer for its client; the first reason is the one that counts.
func (t *transfer) fail(err error) {
	if t.failed == nil && t.result == nil {
		t.failed = err
	}
	t.chunks = nil
}

// lose is the end of the connection.
func (t *transfer) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail(Lost(t.verb, t.last))
	t.ready.Set()
}

// leave is the end of the client.
func (t *transfer) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail(errLeft)
}

var errLeft = errors.New("the client left")

// Lost is what a client is told when the executor, or the replica that it is connected to, is gone before the result
// of a verb has come. complete says that all of a chunked WriteFile's content was sent.
func Lost(verb *pawlv1.Execute, complete bool) error {
	switch v := verb.GetVerb().(type) {
	case *pawlv1.Execute_WriteFile:
		if v.WriteFile.GetChunked() && !complete && v.WriteFile.GetArchive() == 0 {
			return ErrAway.With("the executor left before it had all of the content; nothing was written, try again")
		}
		return ErrOutcome
	case *pawlv1.Execute_MakeDir, *pawlv1.Execute_Remove, *pawlv1.Execute_Exec:
		return ErrOutcome
	}
	return ErrAway.With("the executor left in the middle; try again")
}

// piece is the next thing for a client who reads: that the verb has begun, which is a chunk of no stream, or output. ok
// is false when there is none now.
func (t *transfer) piece(opened *bool) (c chunk, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.failed != nil:
		return chunk{}, false
	case t.open && !*opened:
		*opened = true
		return chunk{}, true
	case len(t.chunks) > 0:
		c = t.chunks[0]
		t.chunks[0] = chunk{}
		t.chunks = t.chunks[1:]
		return c, true
	}
	return chunk{}, false
}

// over is the end of the transfer, if it has come and the client has everything else.
func (t *transfer) over() (*pawlv1.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil && len(t.chunks) > 0 {
		return nil, nil
	}
	return t.result, t.failed
}

// credit is how many bytes of input the executor takes now.
func (t *transfer) credit() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return call.Window - (t.sent - t.acked)
}

// spend takes n bytes of the credit, or the end of the content with them, and returns the offset of the first.
func (t *transfer) spend(n int, last bool) (offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	offset = t.sent
	t.sent += int64(n)
	t.last = last
	return offset
}

// take notes that the client has taken n bytes more of a stream and returns how many that makes.
func (t *transfer) take(s pawlv1.Stream, n int) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out[s].taken += int64(n)
	return t.out[s].taken
}

// waiting is how many bytes wait for the client.
func (t *transfer) waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.chunks {
		n += len(c.data)
	}
	return n
}

// answers reports whether a result is of the kind that a verb asks for.
func answers(x *pawlv1.Execute, r *pawlv1.Result) bool {
	switch x.GetVerb().(type) {
	case *pawlv1.Execute_ReadFile, *pawlv1.Execute_WriteFile:
		return r.GetFile() != nil
	case *pawlv1.Execute_Stat:
		return r.GetStat() != nil
	case *pawlv1.Execute_ReadDir:
		return r.GetNames() != nil
	case *pawlv1.Execute_Exists:
		return r.GetExists() != nil
	case *pawlv1.Execute_MakeDir, *pawlv1.Execute_Remove:
		return r.GetDone() != nil
	case *pawlv1.Execute_Mcp:
		return r.GetMcp() != nil
	case *pawlv1.Execute_Exec:
		return r.GetExec() != nil
	}
	return false
}

func rejected(r *pawlv1.Rejected) error {
	switch r.GetReason() {
	case pawlv1.Rejected_REASON_CAPACITY:
		return ErrBusy
	case pawlv1.Rejected_REASON_DRAINING:
		return ErrAway.With("the executor is draining and takes nothing new; try again")
	}
	reason := strings.TrimPrefix(r.GetReason().String(), "REASON_")
	return ErrExecutor.With("it rejected the call: %s %s", reason, r.GetMessage())
}

// typed are the failures that clients are told as they are.
var typed = map[errs.Code][]string{
	errs.NotFound:           {"NOT_FOUND"},
	errs.FailedPrecondition: {"NOT_DIR", "IS_DIR", "NOT_EMPTY", "IO", "CONDITION_FAILED"},
	errs.AlreadyExists:      {"EXISTS"},
	errs.PermissionDenied:   {"PERMISSION"},
	errs.ResourceExhausted:  {"NO_SPACE", "TOO_LARGE"},
	errs.InvalidArgument:    {"INVALID_ARG", "HASH_MISMATCH"},
	errs.Unavailable:        {"SANDBOX_GONE", "UNAVAILABLE"},
	errs.DeadlineExceeded:   {"TIMEOUT"},
	errs.Canceled:           {"CANCELLED"},
}

func failure(f *pawlv1.Failure) error {
	for code, reasons := range typed {
		if slices.Contains(reasons, f.GetReason()) {
			return errs.New(code, f.GetReason(), f.GetMessage())
		}
	}
	if f.GetReason() == "INTERRUPTED" {
		return ErrOutcome
	}
	return ErrExecutor.With("%s: %s", f.GetReason(), f.GetMessage())
}
