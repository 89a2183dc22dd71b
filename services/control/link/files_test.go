package link

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/files"
)

// replicas runs a test where the executor is connected to the replica that is asked, and where it is connected to
// another one.
func replicas(t *testing.T, f func(t *testing.T, asked, holds *plane)) {
	t.Helper()
	t.Run("here", func(t *testing.T) { within(t, 1, func(all []*plane) { f(t, all[0], all[0]) }) })
	t.Run("at another replica", func(t *testing.T) { within(t, 2, func(all []*plane) { f(t, all[0], all[1]) }) })
}

func cancels(got []*pawlv1.ConnectResponse) (n int) {
	for _, m := range got {
		if m.GetCancel() != nil {
			n++
		}
	}
	return n
}

func acks(got []*pawlv1.ConnectResponse) (n int) {
	for _, m := range got {
		if m.GetResultAck() != nil {
			n++
		}
	}
	return n
}

func content(got []*pawlv1.ConnectResponse) (data []byte, last *pawlv1.Input) {
	for _, m := range got {
		if in := m.GetInput(); in != nil {
			if in.GetOffset() != int64(len(data)) {
				return nil, in
			}
			data = append(data, in.GetData()...)
			if in.GetLast() {
				last = in
			}
		}
	}
	return data, last
}

// A call of no session: asked for once, answered, acknowledged, and gone without a look into the database.
func TestVerb(t *testing.T) {
	replicas(t, func(t *testing.T, asked, holds *plane) {
		e := holds.executor()
		c := asked.do(remove())
		x := e.execute()
		if x.GetLaneId() != "" || x.GetEpoch() != 0 || x.GetSafety() != pawlv1.Safety_SAFETY_AT_MOST_ONCE ||
			len(x.GetArgsSha256()) != 32 || x.GetRemove() == nil {
			t.Errorf("%v", x)
		}
		e.result(x.GetCallId(), done())
		if res, err := c.end(); err != nil || res.GetDone() == nil {
			t.Errorf("%v, %v", res, err)
		}
		if got := e.take(); len(got) != 1 || got[0].GetResultAck().GetCallId() != x.GetCallId() {
			t.Errorf("%v", got)
		}
		if holds.open() != 0 || asked.cluster.db.asked != 0 {
			t.Errorf("%d open, %d questions to the database", holds.open(), asked.cluster.db.asked)
		}
		// The same result again, and one of nobody's: acknowledged, so that the executor forgets it.
		e.result(x.GetCallId(), done())
		e.result("0198aaaa-0000-7000-8000-000000000000", done())
		if got := e.take(); acks(got) != 2 {
			t.Errorf("%v", got)
		}
		if _, err := asked.Do(t.Context(), &files.Request{Executor: "nobody", Verb: existsFile()}); !errors.Is(err,
			fleet.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestRead(t *testing.T) {
	replicas(t, func(t *testing.T, asked, holds *plane) {
		e := holds.executor()
		c := asked.do(readFile())
		x := e.execute()
		if x.GetCwd() != "sub" || x.GetSafety() != pawlv1.Safety_SAFETY_PURE {
			t.Errorf("%v", x)
		}
		e.accept(x.GetCallId(), 8)
		e.output(x.GetCallId(), 0, []byte("abc\x00\xff"))
		e.output(x.GetCallId(), 5, []byte("def"))
		got := e.take()
		if len(got) != 2 || got[1].GetOutputAck().GetUpto() != 8 ||
			got[1].GetOutputAck().GetStream() != pawlv1.Stream_STREAM_FILE {
			t.Errorf("%v", got)
		}
		e.result(x.GetCallId(), file(8))
		res, err := c.end()
		if err != nil || string(c.took) != "abc\x00\xffdef" || c.size != 8 ||
			string(res.GetFile().GetSha256()) != "sum" {
			t.Errorf("%v, %v, %q, size %d", res, err, c.took, c.size)
		}
		if got := e.take(); acks(got) != 1 || holds.open() != 0 {
			t.Errorf("%v", got)
		}
		empty := asked.do(readFile())
		id := e.execute().GetCallId()
		e.accept(id, 0)
		e.result(id, file(0))
		if _, err := empty.end(); err != nil || len(empty.took) != 0 || empty.size != 0 {
			t.Errorf("%v, %q, size %d", err, empty.took, empty.size)
		}
	})
}

// A client that does not take holds up its own transfer at a call.Window of bytes, and nothing else.
func TestSlowReader(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		slow := p.do(readFile(), func(c *client) { c.slow = make(chan struct{}) })
		x := e.execute()
		e.accept(x.GetCallId(), 10<<20)
		off := int64(0)
		for ; off < call.Window; off += files.MaxFrame {
			e.output(x.GetCallId(), off, bytes.Repeat([]byte("x"), files.MaxFrame))
		}
		// One chunk is in the client's hands, the rest waits; nothing was acknowledged.
		if out, _ := p.held(); out != call.Window-files.MaxFrame {
			t.Errorf("%d bytes wait", out)
		}
		if got := e.take(); len(got) != 0 {
			t.Errorf("%v", got)
		}
		quick := p.do(existsFile())
		e.result(e.execute().GetCallId(), exists())
		if res, err := quick.end(); err != nil || !res.GetExists().GetExists() {
			t.Errorf("%v, %v", res, err)
		}
		e.take()
		slow.slow <- struct{}{}
		if got := e.take(); len(got) != 1 || got[0].GetOutputAck().GetUpto() != files.MaxFrame {
			t.Errorf("%v", got)
		}
		e.output(x.GetCallId(), off, bytes.Repeat([]byte("x"), files.MaxFrame))
		if out, _ := p.held(); out != call.Window-files.MaxFrame || !slow.waits() {
			t.Errorf("%d bytes wait", out)
		}
		// More than the call.Window is not kept but ends the transfer.
		e.output(x.GetCallId(), off+files.MaxFrame, []byte("x"))
		if _, err := slow.end(); !errors.Is(err, files.ErrExecutor) {
			t.Error(err)
		}
		if out, _ := p.held(); out != 0 {
			t.Errorf("%d bytes wait", out)
		}
	})
}

func TestWrite(t *testing.T) {
	replicas(t, func(t *testing.T, asked, holds *plane) {
		e := holds.executor()
		c := asked.do(writeFile())
		x := e.execute()
		if x.GetSafety() != pawlv1.Safety_SAFETY_IDEMPOTENT || !x.GetWriteFile().GetChunked() {
			t.Errorf("%v", x)
		}
		big := bytes.Repeat([]byte("\x00\xff"), files.MaxFrame)
		c.give <- &pawlv1.Input{Data: []byte("start")}
		c.give <- &pawlv1.Input{}
		c.give <- &pawlv1.Input{Data: big}
		c.give <- &pawlv1.Input{Last: true, Sha256: []byte("hash")}
		got := e.take()
		data, last := content(got)
		if !bytes.Equal(data, append([]byte("start"), big...)) || string(last.GetSha256()) != "hash" {
			t.Errorf("%d bytes, last %v", len(data), last)
		}
		for _, m := range got {
			if n := len(m.GetInput().GetData()); n > files.MaxFrame {
				t.Errorf("a frame of %d bytes", n)
			}
		}
		e.inputAck(x.GetCallId(), int64(len(data)))
		e.result(x.GetCallId(), file(int64(len(data))))
		if res, err := c.end(); err != nil || res.GetFile().GetSize() != int64(len(data)) {
			t.Errorf("%v, %v", res, err)
		}
		if got := e.take(); acks(got) != 1 || cancels(got) != 0 || holds.open() != 0 {
			t.Errorf("%v", got)
		}
	})
}

// Content waits for a slow network, and what else is sent does not wait for content.
func TestOthersPassContent(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		writes := p.do(writeFile())
		e.execute()
		resume := e.pause()
		writes.give <- &pawlv1.Input{Data: make([]byte, 2*call.Window)}
		_, in := p.held()
		if in == 0 {
			t.Error("nothing waits")
		}
		p.do(existsFile())
		synctest.Wait()
		resume()
		after := 0
		for i, m := range e.take() {
			if m.GetExecute().GetExists() != nil {
				after = i
			}
		}
		if after != (call.Window-in)/files.MaxFrame {
			t.Errorf("%d bytes waited and the other call came as number %d", in, after)
		}
	})
}

// Content of a client that has left is not kept for a slow network.
func TestLeavingDropsContent(t *testing.T) {
	within(t, 1, func(all []*plane) {
		e := all[0].executor()
		writes := all[0].do(writeFile())
		e.execute()
		resume := e.pause()
		writes.give <- &pawlv1.Input{Data: make([]byte, call.Window)}
		if _, in := all[0].held(); in == 0 {
			t.Error("nothing waits")
		}
		writes.cancel()
		if _, in := all[0].held(); in != 0 {
			t.Errorf("%d bytes wait", in)
		}
		resume()
		if got := e.take(); cancels(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}

// The executor gets a call.Window of content and then as much as it acknowledges, never more; what waits at control is
// bounded too.
func TestSlowWriter(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		c := p.do(writeFile())
		x := e.execute()
		giving := make(chan struct{})
		given := 0
		go func() {
			for {
				select {
				case c.give <- &pawlv1.Input{Data: make([]byte, 300_000)}:
					given += 300_000
				case <-giving:
					return
				}
			}
		}()
		total, most := 0, 0
		for _, acked := range []int{
			0, 1, 2, files.MaxFrame, files.MaxFrame + 1, call.Window, 3 * call.Window, 3*call.Window + 5,
		} {
			e.inputAck(x.GetCallId(), int64(acked))
			for _, m := range e.take() {
				total += len(m.GetInput().GetData())
			}
			most = max(most, total-acked)
			if acked <= call.Window && total != acked+call.Window {
				t.Errorf("%d bytes came after %d were acknowledged", total, acked)
			}
			if _, in := p.held(); in != 0 {
				t.Errorf("%d bytes wait", in)
			}
			if acked > total {
				break // more than was sent: see the hostile
			}
		}
		if most != call.Window {
			t.Errorf("%d bytes were on their way, want %d", most, call.Window)
		}
		close(giving)
		synctest.Wait()
		if given-total > 2*300_000 {
			t.Errorf("%d bytes were taken from the client and not sent", given-total)
		}
		if _, err := c.end(); !errors.Is(err, files.ErrExecutor) {
			t.Error(err)
		}
	})
}

// An executor that breaks the rules ends the transfer and gets a Cancel; what it goes on sending is thrown away; the
// connection and other calls live.
func TestHostileExecutor(t *testing.T) {
	frame := func(o *pawlv1.Output) func(*executor, string) {
		return func(e *executor, id string) {
			o.CallId = id
			e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Output{Output: o}})
		}
	}
	accepted := func(then func(*executor, string)) func(*executor, string) {
		return func(e *executor, id string) { e.accept(id, 5); then(e, id) }
	}
	for name, c := range map[string]struct {
		verb *pawlv1.Execute
		act  func(*executor, string)
		over bool // the executor has ended the call
	}{
		"output before it is open": {readFile(), frame(&pawlv1.Output{
			Stream: pawlv1.Stream_STREAM_FILE,
			Data:   []byte("x"),
		}), false},
		"a gap": {readFile(), accepted(frame(&pawlv1.Output{
			Stream: pawlv1.Stream_STREAM_FILE,
			Offset: 1, Data: []byte("x"),
		})), false},
		"a negative offset": {readFile(), accepted(frame(&pawlv1.Output{
			Stream: pawlv1.Stream_STREAM_FILE,
			Offset: -1, Data: []byte("x"),
		})), false},
		"another stream": {readFile(), accepted(frame(&pawlv1.Output{
			Stream: pawlv1.Stream_STREAM_STDOUT,
			Data:   []byte("x"),
		})), false},
		"a frame that is too large": {readFile(), accepted(frame(&pawlv1.Output{
			Stream: pawlv1.Stream_STREAM_FILE,
			Data:   make([]byte, files.MaxFrame+1),
		})), false},
		"output of a write": {writeFile(), accepted(frame(&pawlv1.Output{
			Stream: pawlv1.Stream_STREAM_FILE,
			Data:   []byte("x"),
		})), false},
		"output of a verb": {existsFile(), accepted(frame(&pawlv1.Output{
			Stream: pawlv1.Stream_STREAM_FILE,
			Data:   []byte("x"),
		})), false},
		"credit for nothing": {writeFile(), func(e *executor, id string) { e.inputAck(id, 1) }, false},
		"credit taken back":  {writeFile(), func(e *executor, id string) { e.inputAck(id, -1) }, false},
		"a short file": {readFile(), accepted(func(e *executor,
			id string,
		) {
			e.output(id, 0, []byte("abc"))
			e.result(id, file(5))
		}), true},
		"a long file": {readFile(), accepted(func(e *executor,
			id string,
		) {
			e.output(id, 0, []byte("abc"))
			e.result(id, file(2))
		}), true},
		"a result of another kind": {existsFile(), func(e *executor, id string) { e.result(id, done()) }, true},
		"a result of no kind": {
			existsFile(), func(e *executor, id string) { e.result(id, &pawlv1.Result{}) },
			true,
		},
		"a reason nobody knows": {
			existsFile(), func(e *executor, id string) { e.result(id, failed("MADE_UP")) },
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				p := all[0]
				e := p.executor()
				client := p.do(c.verb)
				id := e.execute().GetCallId()
				c.act(e, id)
				if _, err := client.end(); !errors.Is(err, files.ErrExecutor) {
					t.Fatal(err)
				}
				got := e.take()
				if (cancels(got) == 1) == c.over || acks(got) == 0 && c.over {
					t.Errorf("%v", got)
				}
				for off := range int64(20) {
					e.output(id, off*files.MaxFrame, make([]byte, files.MaxFrame))
				}
				if out, _ := p.held(); out != 0 {
					t.Errorf("%d bytes wait", out)
				}
				e.result(id, failed("CANCELLED"))
				if got := e.take(); acks(got) != 1 || p.open() != 0 {
					t.Errorf("%v, %d open", got, p.open())
				}
				other := p.do(existsFile())
				e.result(e.execute().GetCallId(), exists())
				if _, err := other.end(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Output of a file that nobody asked for is dropped, whatever it says.
func TestUninvited(t *testing.T) {
	within(t, 1, func(all []*plane) {
		e := all[0].executor()
		e.output("nobody", 0, []byte("x"))
		e.inputAck("nobody", 7)
		e.accept("nobody", 1)
		if got := e.take(); len(got) != 0 || all[0].connection("e") == nil {
			t.Errorf("%v", got)
		}
	})
}

// What a client is told when the connection is lost in the middle: that nothing was done, or that nobody knows.
func TestConnectionLost(t *testing.T) {
	for name, c := range map[string]struct {
		verb *pawlv1.Execute
		give []*pawlv1.Input
		want error
	}{
		"read":             {readFile(), nil, files.ErrAway},
		"exists":           {existsFile(), nil, files.ErrAway},
		"incomplete write": {writeFile(), []*pawlv1.Input{{Data: []byte("x")}}, files.ErrAway},
		"complete write":   {writeFile(), []*pawlv1.Input{{Data: []byte("x")}, {Last: true}}, files.ErrOutcome},
		"remove":           {remove(), nil, files.ErrOutcome},
	} {
		for how, end := range map[string]func(holds *plane, e *executor){
			"cut":        func(_ *plane, e *executor) { e.close() },
			"superseded": func(holds *plane, _ *executor) { holds.executor() },
			"silent": func(_ *plane, e *executor) {
				e.deaf.Store(true)
				time.Sleep(3 * ttl)
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				replicas(t, func(t *testing.T, asked, holds *plane) {
					e := holds.executor()
					client := asked.do(c.verb)
					id := e.execute().GetCallId()
					e.accept(id, 5)
					for _, in := range c.give {
						client.give <- in
					}
					synctest.Wait()
					end(holds, e)
					if _, err := client.end(); !errors.Is(err, c.want) {
						t.Errorf("%v, want %v", err, c.want)
					}
				})
			})
		}
	}
}

// A replica that goes takes its transfers with it.
func TestReplicaLost(t *testing.T) {
	for name, c := range map[string]struct {
		verb *pawlv1.Execute
		give []*pawlv1.Input
		want error
	}{
		"read":             {readFile(), nil, files.ErrAway},
		"incomplete write": {writeFile(), []*pawlv1.Input{{Data: []byte("x")}}, files.ErrAway},
		"complete write":   {writeFile(), []*pawlv1.Input{{Data: []byte("x")}, {Last: true}}, files.ErrOutcome},
		"remove":           {remove(), nil, files.ErrOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 2, func(all []*plane) {
				e := all[1].executor()
				client := all[0].do(c.verb)
				e.execute()
				for _, in := range c.give {
					client.give <- in
				}
				synctest.Wait()
				all[1].grpc.Stop()
				if _, err := client.end(); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if _, err := all[0].do(c.verb).end(); !errors.Is(err, files.ErrAway) {
					t.Error(err)
				}
			})
		})
	}
}

// A client that leaves ends its call; what waits for it is thrown away at once.
func TestClientLeaves(t *testing.T) {
	for name, verb := range map[string]*pawlv1.Execute{
		"read": readFile(), "write": writeFile(),
		"exists": existsFile(),
	} {
		t.Run(name, func(t *testing.T) {
			replicas(t, func(t *testing.T, asked, holds *plane) {
				e := holds.executor()
				client := asked.do(verb, func(c *client) { c.slow = make(chan struct{}) })
				id := e.execute().GetCallId()
				e.accept(id, 5)
				if verb.GetReadFile() != nil {
					e.output(id, 0, make([]byte, files.MaxFrame))
					e.output(id, files.MaxFrame, make([]byte, files.MaxFrame))
				}
				if verb.GetWriteFile() != nil {
					client.give <- &pawlv1.Input{Data: make([]byte, 2*call.Window)}
				}
				synctest.Wait()
				client.cancel()
				if _, err := client.end(); err == nil {
					t.Error("no error")
				}
				if got := e.take(); cancels(got) != 1 {
					t.Errorf("%v", got)
				}
				e.inputAck(id, 10) // makes room, for nobody
				if out, in := holds.held(); out != 0 || in != 0 || len(e.take()) != 0 {
					t.Errorf("%d bytes of output wait, %d of input", out, in)
				}
				e.result(id, failed("CANCELLED"))
				if got := e.take(); acks(got) != 1 || holds.open() != 0 || holds.cluster.db.asked != 0 {
					t.Errorf("%v, %d open", got, holds.open())
				}
			})
		})
	}
}

// A client that neither takes nor sends is not waited for for ever.
func TestStalledClient(t *testing.T) {
	within(t, 1, func(all []*plane) {
		e := all[0].executor()
		reads := all[0].do(readFile(), func(c *client) { c.slow = make(chan struct{}) })
		id := e.execute().GetCallId()
		e.accept(id, 1)
		e.output(id, 0, []byte("x"))
		begun := time.Now()
		if _, err := reads.end(); !errors.Is(err, files.ErrStalled) || time.Since(begun) != files.StallLimit {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		e.take()
		writes := all[0].do(writeFile())
		e.execute()
		time.Sleep(files.StallLimit / 2)
		writes.give <- &pawlv1.Input{Data: []byte("x")}
		begun = time.Now()
		if _, err := writes.end(); !errors.Is(err, files.ErrStalled) || time.Since(begun) != files.StallLimit {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		// An executor that takes its time is not the client's fault: its connection says that it lives.
		slow := all[0].do(remove())
		e.take()
		time.Sleep(10 * files.StallLimit)
		if !slow.waits() {
			t.Error("given up")
		}
	})
}

func TestRefusals(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		for reason, want := range map[pawlv1.Rejected_Reason]error{
			pawlv1.Rejected_REASON_CAPACITY: files.ErrBusy, pawlv1.Rejected_REASON_DRAINING: files.ErrAway,
			pawlv1.Rejected_REASON_UNSUPPORTED: files.ErrExecutor,
		} {
			c := p.do(remove())
			e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Rejected{Rejected: &pawlv1.Rejected{CallId: e.execute().GetCallId(), Reason: reason}}})
			if _, err := c.end(); !errors.Is(err, want) {
				t.Errorf("%v: %v", reason, err)
			}
			if got := e.take(); len(got) != 0 || p.open() != 0 {
				t.Errorf("%v: %v", reason, got)
			}
		}
		for reason, code := range map[string]errs.Code{
			"NOT_FOUND": errs.NotFound, "IS_DIR": errs.FailedPrecondition, "NOT_DIR": errs.FailedPrecondition, "NOT_EMPTY": errs.FailedPrecondition, "IO": errs.FailedPrecondition,
			"EXISTS": errs.AlreadyExists, "PERMISSION": errs.PermissionDenied, "NO_SPACE": errs.ResourceExhausted, "TOO_LARGE": errs.ResourceExhausted,
			"INVALID_ARG": errs.InvalidArgument, "HASH_MISMATCH": errs.InvalidArgument, "TIMEOUT": errs.DeadlineExceeded,
			"SANDBOX_GONE": errs.Unavailable, "UNAVAILABLE": errs.Unavailable, "CANCELLED": errs.Canceled,
		} {
			c := p.do(remove())
			e.result(e.execute().GetCallId(), failed(reason))
			_, err := c.end()
			if got, ok := errs.Public(err); !ok || got.Reason() != reason || got.Code() != code ||
				got.Error() != "it says why" {
				t.Errorf("%s: %v", reason, err)
			}
			e.take()
		}
		c := p.do(remove())
		e.result(e.execute().GetCallId(), failed("INTERRUPTED"))
		if _, err := c.end(); !errors.Is(err, files.ErrOutcome) {
			t.Error(err)
		}
	})
}

// One connection serves so many at once; those that a client has left count until the executor has ended them.
func TestTransferLimit(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		var clients []*client
		for range files.Limit {
			clients = append(clients, p.do(existsFile()))
		}
		synctest.Wait()
		clients[0].cancel()
		synctest.Wait()
		if _, err := p.do(existsFile()).end(); !errors.Is(err, files.ErrBusy) {
			t.Error(err)
		}
		for _, m := range e.take() {
			if m.GetCancel() != nil {
				e.result(m.GetCancel().GetCallId(), failed("CANCELLED"))
			}
		}
		synctest.Wait()
		if !p.do(existsFile()).waits() {
			t.Error("no room")
		}
	})
}

// C4: what an executor still has of an earlier connection and nobody knows is cancelled, and its result acknowledged.
func TestReconcileEndsWhatNobodyKnows(t *testing.T) {
	within(t, 1, func(all []*plane) {
		e := all[0].executor(&pawlv1.CallState{CallId: "old", State: pawlv1.State_STATE_RUNNING},
			&pawlv1.CallState{CallId: "ended", State: pawlv1.State_STATE_FINISHED})
		if got := e.take(); cancels(got) > 1 {
			t.Errorf("%v", got)
		}
		e.result("old", failed("CANCELLED"))
		e.result("ended", file(1))
		if got := e.take(); acks(got) != 2 {
			t.Errorf("%v", got)
		}
	})
}
