package work

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/work/worktest"
)

// tb is what rig needs of a test; rapid.T has it too.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// rig is a service over a box, and control's side of its connection.
type rig struct {
	t     tb
	box   *worktest.Box
	sb    sandbox.Sandbox // the box, or what stands before it
	dir   string
	jcfg  journal.Config
	slots int
	// witness is Config.Witness.
	witness func() string
	j       *journal.Journal
	s       *Service

	conn *Conn
	quit context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex
	got  []*pawlv1.ConnectRequest
	log  bytes.Buffer
}

// within runs a test in a bubble with a rig that is up and connected.
func within(t *testing.T, f func(r *rig)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir)
		defer r.end()
		r.up()
		r.connect()
		f(r)
	})
}

func newRig(t tb, dir string) *rig {
	box := worktest.New()
	return &rig{t: t, box: box, sb: box, dir: dir, jcfg: journal.Config{NoSync: true}}
}

// up starts the daemon.
func (r *rig) up() {
	r.t.Helper()
	j, err := journal.Open(r.dir, r.jcfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.j = j
	r.s = New(Config{
		Sandbox: r.sb, Journal: j, Slots: r.slots, Witness: r.witness, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	if err := r.s.Recover(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// pass lets time go by, on the fake clock that every rig runs on.
func pass(d time.Duration) { time.Sleep(d) }

// logged is the log of a daemon that is down.
func (r *rig) logged() string { return r.log.String() }

// down ends the daemon; commands go on.
func (r *rig) down() {
	r.disconnect()
	r.s.Close()
	r.j.Close()
	synctest.Wait()
}

func (r *rig) restart() {
	r.t.Helper()
	r.down()
	r.up()
	r.connect()
}

func (r *rig) end() {
	r.down()
	r.box.Close()
}

const testWindow = 1000

// connect makes a new connection with a small window.
func (r *rig) connect() {
	r.disconnect()
	ctx, quit := context.WithCancel(context.Background())
	conn := r.s.Connect(testWindow)
	r.conn, r.quit = conn, quit
	r.wg.Go(func() {
		for {
			m, err := conn.Next(ctx)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.got = append(r.got, proto.CloneOf(m))
			r.mu.Unlock()
		}
	})
	synctest.Wait()
}

func (r *rig) disconnect() {
	if r.conn != nil {
		r.conn.Close()
		r.quit()
		r.wg.Wait()
		r.conn, r.got = nil, nil
	}
}

// take is what came since the last time.
func (r *rig) take() []*pawlv1.ConnectRequest {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

// brief is frames as a line.
func brief(frames []*pawlv1.ConnectRequest) string {
	var all []string
	for _, m := range frames {
		switch f := m.GetFrame().(type) {
		case *pawlv1.ConnectRequest_Accepted:
			all = append(all, "accepted "+f.Accepted.GetCallId())
		case *pawlv1.ConnectRequest_Rejected:
			why := strings.TrimPrefix(f.Rejected.GetReason().String(), "REASON_")
			if known := f.Rejected.GetKnownEpoch(); known > 0 {
				why = fmt.Sprintf("%s, knows %d", why, known)
			}
			all = append(all, fmt.Sprintf("rejected %s %s", f.Rejected.GetCallId(), why))
		case *pawlv1.ConnectRequest_Output:
			o := f.Output
			all = append(all, fmt.Sprintf("output %s %s %d+%d", o.GetCallId(),
				strings.TrimPrefix(o.GetStream().String(), "STREAM_"), o.GetOffset(), len(o.GetData())))
		case *pawlv1.ConnectRequest_Result:
			all = append(all, fmt.Sprintf("result %s %s", f.Result.GetCallId(), outcome(f.Result)))
		case *pawlv1.ConnectRequest_Status:
			s := f.Status
			all = append(all, fmt.Sprintf("status %s %s", s.GetCall().GetCallId(),
				strings.TrimPrefix(s.GetCall().GetState().String(), "STATE_")))
		case *pawlv1.ConnectRequest_InputAck:
			all = append(all, fmt.Sprintf("input ack %s %d", f.InputAck.GetCallId(), f.InputAck.GetUpto()))
		case *pawlv1.ConnectRequest_Draining:
			all = append(all, "draining")
		case *pawlv1.ConnectRequest_Heartbeat:
			all = append(all, fmt.Sprintf("heartbeat %d %s", f.Heartbeat.GetNonce(), f.Heartbeat.GetLastCallId()))
		}
	}
	return strings.Join(all, ", ")
}

func outcome(r *pawlv1.Result) string {
	switch o := r.GetOutcome().(type) {
	case *pawlv1.Result_Failure:
		return o.Failure.GetReason()
	case *pawlv1.Result_Exec:
		return fmt.Sprintf("exit %d", o.Exec.GetExitCode())
	case *pawlv1.Result_File:
		return fmt.Sprintf("file %d", o.File.GetSize())
	case *pawlv1.Result_Edit:
		return fmt.Sprintf("edit %d", o.Edit.GetReplacements())
	case *pawlv1.Result_Text:
		return fmt.Sprintf("text %q", o.Text.GetContent())
	case *pawlv1.Result_Exists:
		return fmt.Sprintf("exists %v", o.Exists.GetExists())
	}
	return fmt.Sprintf("%T", r.GetOutcome())
}

// want checks what came since the last time.
func (r *rig) want(lines ...string) {
	r.t.Helper()
	if got, want := brief(r.take()), strings.Join(lines, ", "); got != want {
		r.t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// execute is an at-most-once call of epoch 1, dispatch 1; options change that.
func execute(id string, opts ...func(*pawlv1.Execute)) *pawlv1.Execute {
	e := &pawlv1.Execute{CallId: id, LaneId: "s", Epoch: 1, Dispatch: 1, Safety: pawlv1.Safety_SAFETY_AT_MOST_ONCE}
	for _, o := range opts {
		o(e)
	}
	if e.ArgsSha256 == nil {
		sum := sha256.Sum256([]byte(fmt.Sprint(e.GetVerb())))
		e.ArgsSha256 = sum[:]
	}
	return e
}

// loose makes it a call of no lane.
func loose(e *pawlv1.Execute) { e.LaneId, e.Epoch = "", 0 }

func line(l string) func(*pawlv1.Execute) {
	return func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_Exec{Exec: &pawlv1.Exec{Command: l}} }
}

func epoch(n int64) func(*pawlv1.Execute)     { return func(e *pawlv1.Execute) { e.Epoch = n } }
func dispatch(n uint32) func(*pawlv1.Execute) { return func(e *pawlv1.Execute) { e.Dispatch = n } }
func timeout(d time.Duration) func(*pawlv1.Execute) {
	return func(e *pawlv1.Execute) { e.Timeout = durationpb.New(d) }
}
func pure(e *pawlv1.Execute)       { e.Safety = pawlv1.Safety_SAFETY_PURE }
func idempotent(e *pawlv1.Execute) { e.Safety = pawlv1.Safety_SAFETY_IDEMPOTENT }

func textVerb(path string) func(*pawlv1.Execute) {
	return func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_ReadText{ReadText: &pawlv1.ReadText{Path: path}} }
}

func putFile(path, content string) func(*pawlv1.Execute) {
	return func(e *pawlv1.Execute) {
		e.Verb = &pawlv1.Execute_WriteFile{WriteFile: &pawlv1.WriteFile{Path: path, Content: []byte(content)}}
	}
}

func (r *rig) send(e *pawlv1.Execute) {
	r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: e}})
}

func (r *rig) attach(id string, epoch int64, dispatch uint32, stdout, stderr int64) {
	r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Attach{Attach: &pawlv1.Attach{
		CallId: id, LaneId: "s", Epoch: epoch, Dispatch: dispatch, StdoutFrom: stdout, StderrFrom: stderr,
	}}})
}

func (r *rig) cancel(id string, epoch int64) {
	r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Cancel{Cancel: &pawlv1.Cancel{
		CallId: id, LaneId: "s", Epoch: epoch, Grace: durationpb.New(time.Second),
	}}})
}

func (r *rig) ack(id string) {
	r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_ResultAck{ResultAck: &pawlv1.ResultAck{CallId: id}}})
}

func (r *rig) credit(id string, s pawlv1.Stream, upto int64) {
	r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_OutputAck{OutputAck: &pawlv1.OutputAck{CallId: id, Stream: s, Upto: upto}}})
}

// input sends a piece of a chunked write. The last one comes with the hash of the whole, "" for none.
func (r *rig) input(id string, off int64, data string, last bool, whole string) {
	m := &pawlv1.Input{CallId: id, Offset: off, Data: []byte(data), Last: last}
	if whole != "" {
		sum := sha256.Sum256([]byte(whole))
		m.Sha256 = sum[:]
	}
	r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Input{Input: m}})
}

// inflight is what Hello would say.
func (r *rig) inflight() string {
	var all []string
	for _, c := range r.s.Inflight() {
		all = append(all, fmt.Sprintf("%s %s", c.GetCallId(), strings.TrimPrefix(c.GetState().String(), "STATE_")))
	}
	return strings.Join(all, ", ")
}

func (r *rig) runs(id string, n int) {
	r.t.Helper()
	if got := r.box.Runs(id); got != n {
		r.t.Errorf("%s ran %d times, want %d", id, got, n)
	}
}

var errBroken = errors.New("broken")

// loosen cancels a call of no lane.
func (r *rig) loosen(id string) {
	r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Cancel{Cancel: &pawlv1.Cancel{CallId: id}}})
}

// written is how far the journal was written.
func (r *rig) written() journal.LSN {
	r.t.Helper()
	lsn, err := r.j.Raise("", 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return lsn
}
