package work

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/work/worktest"
)

// At most a window of bytes is on its way, acknowledged bytes make room, and a result does not wait for a watcher that
// is gone.
func TestWindow(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("bytes 2500;sleep 1h")))
		r.want("accepted a", "output a STDOUT 0+1000")
		r.credit("a", out, 400)
		r.want("output a STDOUT 1000+400")
		r.credit("a", out, 300) // never back
		r.want()
		r.credit("a", out, 99999) // no more than was sent
		r.want("output a STDOUT 1400+1000")
		time.Sleep(2 * time.Hour)
		got := r.take()
		if brief(got) != "result a exit 0" {
			t.Fatal(brief(got))
		}
		if size := got[0].GetResult().GetExec().GetStdout().GetSize(); size != 2500 {
			t.Errorf("size %d", size)
		}
		// What was left out is there for who asks.
		r.attach("a", 1, 1, 2400, 0)
		r.want("status a FINISHED", "output a STDOUT 2400+100", "result a exit 0")
	})
}

// A watcher that keeps taking gets everything before the result.
func TestAllOutputBeforeResult(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("bytes 5000")))
		r.want("accepted a", "output a STDOUT 0+1000")
		for off := int64(1000); off < 5000; off += 1000 {
			time.Sleep(linger / 2)
			r.want()
			r.credit("a", out, off)
			if off < 4000 {
				r.want(fmt.Sprintf("output a STDOUT %d+1000", off))
			}
		}
		r.want("output a STDOUT 4000+1000", "result a exit 0")
	})
}

func TestLinger(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("bytes 5000")))
		r.want("accepted a", "output a STDOUT 0+1000")
		time.Sleep(linger - time.Millisecond)
		r.want()
		time.Sleep(2 * time.Millisecond)
		r.want("result a exit 0")
		time.Sleep(time.Hour)
		r.want()
	})
}

// A slow watcher of one call does not delay another, and both streams of a call get their turn.
func TestFair(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("slow", line("bytes 100000;sleep 1h")))
		r.want("accepted slow", "output slow STDOUT 0+1000")
		r.send(execute("quick", line("bytes 900;warn x;sleep 1h")))
		got := brief(r.take())
		for _, want := range []string{"output quick STDOUT 0+900", "output quick STDERR 0+2"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in %q", want, got)
			}
		}
	})
}

// Whatever is lost with connections and restarts, the bytes that a watcher puts together are the bytes of the command.
func TestOutputOverReconnects(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("bytes 1500;sleep 1h;bytes 4000")))
		var got []byte
		done := false
		take := func() {
			for _, m := range r.take() {
				if o := m.GetOutput(); o != nil {
					if o.GetOffset() > int64(len(got)) {
						t.Fatalf("a gap: %d after %d", o.GetOffset(), len(got))
					}
					got = append(got[:o.GetOffset()], o.GetData()...)
				}
				done = done || m.GetResult() != nil
			}
		}
		take()
		for i := range 30 {
			switch i % 3 {
			case 0:
				r.credit("a", out, int64(len(got)))
			case 1:
				r.connect()
			case 2:
				r.restart()
			}
			if i > 10 {
				time.Sleep(time.Hour / 5)
			}
			r.attach("a", 1, 1, int64(len(got)), 0)
			take()
		}
		want := append(worktest.Pattern(1500), worktest.Pattern(4000)...)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes that are not the %d of the command", len(got), len(want))
		}
		if !done {
			t.Error("no result")
		}
		r.runs("a", 1)
	})
}

// Captured is the head and the tail of a stream.
func TestCaptured(t *testing.T) {
	within(t, func(r *rig) {
		for _, n := range []int{0, 1, maxHead, maxHead + 1, maxHead + maxTail, maxHead + maxTail + 1, 1 << 20} {
			id := fmt.Sprint("n", n)
			r.send(execute(id, line(fmt.Sprintf("bytes %d", n))))
			time.Sleep(time.Minute)
			got := r.take()
			c, all := got[len(got)-1].GetResult().GetExec().GetStdout(), worktest.Pattern(n)
			if c.GetSize() != int64(n) || c.GetCut() != int64(n-len(c.GetHead())-len(c.GetTail())) {
				t.Errorf("%d: size %d, head %d, tail %d, cut %d", n, c.GetSize(), len(c.GetHead()), len(c.GetTail()),
					c.GetCut())
			}
			if n <= maxHead+maxTail && c.GetCut() != 0 {
				t.Errorf("%d: %d cut", n, c.GetCut())
			}
			if !bytes.HasPrefix(all, c.GetHead()) || !bytes.HasSuffix(all, c.GetTail()) || len(c.GetHead()) > maxHead ||
				len(c.GetTail()) > maxTail {
				t.Errorf("%d: wrong head or tail", n)
			}
			r.ack(id)
		}
	})
}

// The sizes in Hello and Status are what there is.
func TestSizes(t *testing.T) {
	within(t, func(r *rig) {
		for i, n := range []int{0, 1, 2, 3, 777, 5000} {
			r.send(execute(fmt.Sprint(i), line(fmt.Sprintf("bytes %d;warn x;sleep 1h", n))))
			r.take()
			if got := r.s.Inflight()[i]; got.GetStdoutSize() != int64(n) || got.GetStderrSize() != 2 {
				t.Errorf("%d: %v", n, got)
			}
		}
	})
}

func readFileCall(id, path string) *pawlv1.Execute {
	return execute(id, loose, pure, func(e *pawlv1.Execute) {
		e.Verb = &pawlv1.Execute_ReadFile{ReadFile: &pawlv1.ReadFile{Path: path}}
	})
}

// A file comes whole, as fast as it is taken; its result comes last and never without the bytes.
func TestReadFile(t *testing.T) {
	const file = pawlv1.Stream_STREAM_FILE
	within(t, func(r *rig) {
		content := string(worktest.Pattern(3300))
		r.box.Put("f", content)
		r.send(readFileCall("a", "f"))
		r.want("accepted a", "output a FILE 0+1000")
		r.box.Put("f", "replaced") // the open file stays
		time.Sleep(time.Hour)
		r.want()
		r.credit("a", file, 1000)
		got := r.take()
		for _, upto := range []int64{2000, 3000} {
			r.credit("a", file, upto)
			got = append(got, r.take()...)
		}
		if brief(got) != "output a FILE 1000+1000, output a FILE 2000+1000, output a FILE 3000+300, result a file 3300" {
			t.Fatal(brief(got))
		}
		result := got[len(got)-1].GetResult()
		if sum := sha256.Sum256([]byte(content)); !bytes.Equal(sum[:], result.GetFile().GetSha256()) {
			t.Error("wrong hash")
		}
		r.ack("a")
		r.box.Put("empty", "")
		r.send(readFileCall("e", "empty"))
		r.want("accepted e", "result e file 0")
		r.send(readFileCall("none", "none"))
		r.want("accepted none", "result none NOT_FOUND")
	})
}

// The bytes of a file are kept nowhere, so no owner could ask for them again.
func TestNoReadFileOfALane(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("f", "x")
		e := readFileCall("a", "f")
		e.LaneId, e.Epoch = "s", 1
		r.send(e)
		r.want("rejected a UNSUPPORTED")
	})
}

func chunked(id, path string) *pawlv1.Execute {
	return execute(id, loose, func(e *pawlv1.Execute) {
		e.Verb = &pawlv1.Execute_WriteFile{WriteFile: &pawlv1.WriteFile{Path: path, Chunked: true}}
	})
}

// A chunked write replaces the file when all of it is there and right, and not before.
func TestChunkedWrite(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("f", "old")
		same := func(want string) {
			t.Helper()
			if got, _ := r.box.Get("f"); got != want {
				t.Errorf("the file holds %q, want %q", got, want)
			}
		}
		r.send(chunked("a", "f"))
		r.input("a", 0, "HELLO ", false, "")
		r.want("accepted a", "input ack a 6")
		same("old")
		r.input("a", 6, "", false, "") // says nothing
		r.input("a", 6, "world", true, "HELLO world")
		r.want("result a file 11")
		same("HELLO world")
		r.input("a", 0, "late", true, "late")
		r.input("nobody", 0, "x", true, "x")
		r.send(chunked("hash", "f"))
		r.input("hash", 0, "x", true, "y")
		r.want("accepted hash", "result hash HASH_MISMATCH")
		r.send(chunked("gap", "f"))
		r.input("gap", 0, "x", false, "")
		r.input("gap", 2, "x", true, "xx")
		r.want("accepted gap", "input ack gap 1", "result gap INVALID_ARG")
		r.send(chunked("empty", "e"))
		r.input("empty", 0, "", true, "")
		r.want("accepted empty", "result empty file 0")
		r.send(chunked("idle", "f"))
		r.want("accepted idle")
		time.Sleep(intakeIdle + time.Second)
		r.want("result idle TIMEOUT")
		same("HELLO world")
		if n := r.box.Writing(); n != 0 {
			t.Errorf("%d writes were neither committed nor aborted", n)
		}
	})
}

// The content waits for a slow disk in memory up to a window, and not at all in the connection: others are served
// meanwhile.
func TestInputWindow(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Gate = make(chan struct{})
		r.send(chunked("a", "f"))
		r.input("a", 0, strings.Repeat("x", testWindow/2), false, "")
		r.input("a", testWindow/2, strings.Repeat("x", testWindow/2), false, "")
		r.want("accepted a")
		r.send(execute("quick", line("echo hi")))
		r.want("accepted quick", "output quick STDOUT 0+3", "result quick exit 0")
		close(r.box.Gate)
		r.want("input ack a 500", "input ack a 1000")
		r.input("a", testWindow, strings.Repeat("x", testWindow), false, "") // all of it again
		r.want("input ack a 2000")

		r.box.Gate = make(chan struct{})
		r.send(chunked("b", "f"))
		r.input("b", 0, strings.Repeat("x", testWindow), false, "")
		r.input("b", testWindow, "x", false, "")
		r.input("b", testWindow+1, "x", true, "")
		r.want("accepted b")
		close(r.box.Gate)
		r.want("result b INVALID_ARG")
		if _, ok := r.box.Get("f"); ok {
			t.Error("the file is there")
		}
	})
}

// A call of no lane leaves nothing behind: not in the journal, not in Hello, not on a newer connection.
func TestLooseCallsEndWithTheConnection(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("f", string(worktest.Pattern(5000)))
		remove := func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_Remove{Remove: &pawlv1.Remove{Path: "f"}} }
		gate := make(chan struct{})
		begin := func() {
			r.box.Gate = nil
			r.send(execute("read", loose, pure, func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_ReadFile{ReadFile: &pawlv1.ReadFile{Path: "f"}} }))
			r.send(chunked("write", "f"))
			r.input("write", 0, "x", false, "")
			r.take()
			r.box.Gate = gate
			r.send(execute("remove", loose, remove))
			r.want("accepted remove")
		}
		fresh := r.written()
		gone := func() {
			t.Helper()
			synctest.Wait()
			if r.written() != fresh || r.s.running != 0 || len(r.s.live) != 0 || r.box.Writing() != 0 {
				t.Errorf("the journal went from %d to %d, %d running, %d known, %d writes", fresh, r.written(),
					r.s.running, len(r.s.live), r.box.Writing())
			}
		}
		begin()
		if got := r.inflight(); got != "" {
			t.Errorf("Hello would tell of %s", got)
		}
		r.connect()
		r.want()
		gone()
		begin()
		r.disconnect()
		gone()
		r.connect()
		begin()
		r.down()
		r.up()
		fresh = r.written()
		r.connect()
		gone()
		if _, ok := r.box.Get("f"); !ok {
			t.Error("an abandoned call removed the file")
		}

		// One that ends and is acknowledged; one that is cancelled; one that is cancelled and never came.
		r.box.Gate = nil
		r.send(execute("fenced", loose, epoch(7), pure,
			func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_Exists{Exists: &pawlv1.Exists{Path: "f"}} }))
		r.want("accepted fenced", "result fenced exists true")
		r.ack("fenced") // there is no fence: epoch 0 comes next
		r.send(execute("done", loose, remove))
		r.send(execute("done", loose, remove)) // the same again
		got := brief(r.take())
		if strings.Count(got, "result done *pawlv1.Result_Done") == 0 || strings.Contains(got, "NOT_FOUND") {
			t.Error(got)
		}
		r.ack("done")
		r.send(chunked("cancelled", "f"))
		r.loosen("cancelled")
		r.want("accepted cancelled", "result cancelled CANCELLED")
		r.ack("cancelled")
		r.loosen("unseen")
		r.want("result unseen CANCELLED")
		r.ack("unseen")
		gone()
	})
}

// A cancelled read sends no more of its file.
func TestCancelledRead(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("f", string(worktest.Pattern(5000)))
		r.send(execute("a", loose, pure, func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_ReadFile{ReadFile: &pawlv1.ReadFile{Path: "f"}} }))
		got := r.take()
		if brief(got) != "accepted a, output a FILE 0+1000" || got[0].GetAccepted().GetSize() != 5000 {
			t.Fatal(got)
		}
		r.loosen("a")
		r.want("result a CANCELLED")
		r.credit("a", pawlv1.Stream_STREAM_FILE, 1000)
		r.want()
	})
}

// Calls of no lane and those of lanes do not take each other's slots.
func TestLooseSlots(t *testing.T) {
	within(t, func(r *rig) {
		for i := range looseSlots {
			r.send(chunked(fmt.Sprint(i), fmt.Sprint(i)))
		}
		r.take()
		r.send(chunked("more", "f"))
		r.want("rejected more CAPACITY")
		for i := range r.s.Slots() {
			r.send(execute(fmt.Sprint("s", i), line("sleep 1h")))
		}
		if got := brief(r.take()); strings.Contains(got, "rejected") {
			t.Error(got)
		}
		r.send(execute("s", line("sleep 1h")))
		r.want("rejected s CAPACITY")
	})
}

// What a call of no lane cannot be, and what only it can be.
func TestLooseVerbs(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", loose, line("echo hi"), func(e *pawlv1.Execute) { e.GetExec().Keep = true }))
		r.want("rejected a UNSUPPORTED")
		r.send(execute("i", line("cat"), func(e *pawlv1.Execute) { e.GetExec().Stdin = true }))
		r.want("rejected i UNSUPPORTED")
		e := chunked("b", "f")
		e.LaneId = "s"
		r.send(e)
		r.want("rejected b UNSUPPORTED")
	})
}

// This executor offers no tools: a call of one is refused, and nothing runs.
func TestCallsOfToolsAreRefused(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", func(e *pawlv1.Execute) {
			e.Verb = &pawlv1.Execute_CallTool{CallTool: &pawlv1.CallTool{Name: "cad", ArgsJson: "{}"}}
		}))
		r.want("rejected a UNSUPPORTED")
	})
}

// A command of a lane can have its input whole.
func TestInputOfACommand(t *testing.T) {
	within(t, func(r *rig) {
		for name, x := range map[string]*pawlv1.Exec{
			"large": {Input: make([]byte, sandbox.MaxInput+1)},
			"both":  {Input: []byte("x"), Stdin: true},
		} {
			r.send(execute(name, loose, line("cat"), func(e *pawlv1.Execute) {
				e.GetExec().Input, e.GetExec().Stdin = x.Input, x.Stdin
			}))
			r.want("rejected " + name + " UNSUPPORTED")
		}
		r.send(execute("in", line("cat"), func(e *pawlv1.Execute) { e.GetExec().Input = []byte("hello") }))
		r.want("accepted in", "output in STDOUT 0+5", "result in exit 0")
	})
}

// The result of a command whose output is an image has all of it, also when the daemon has died meanwhile, unless it is
// too large.
func TestImageOfACommand(t *testing.T) {
	image := func(e *pawlv1.Execute) { e.GetExec().StdoutImage = true }
	within(t, func(r *rig) {
		r.send(execute("lived", line(fmt.Sprintf("bytes %d", maxImage)), image))
		r.send(execute("died", line(fmt.Sprintf("sleep 1m; bytes %d", maxImage)), image))
		r.send(execute("large", line(fmt.Sprintf("bytes %d", maxImage+1)), image))
		r.send(execute("text", line(fmt.Sprintf("bytes %d", maxImage))))
		time.Sleep(time.Second)
		r.take()
		r.restart()
		time.Sleep(2 * time.Minute)
		r.connect()
		time.Sleep(time.Minute)
		got := map[string]string{}
		for _, m := range r.take() {
			if res := m.GetResult(); res != nil {
				out := res.GetExec().GetStdout()
				got[res.GetCallId()] = fmt.Sprint(len(res.GetExec().GetImage()), " ", len(out.GetHead()), " ",
					out.GetSize())
			}
		}
		want := map[string]string{
			"lived": fmt.Sprint(maxImage, " 0 ", maxImage), "died": fmt.Sprint(maxImage, " 0 ", maxImage),
			"large": fmt.Sprint("0 ", maxHead, " ", maxImage+1), "text": fmt.Sprint("0 ", maxHead, " ", maxImage),
		}
		if !maps.Equal(got, want) {
			t.Errorf("image, head and size are %v, want %v", got, want)
		}
	})
}

// A command of no lane is a client's: its input comes in frames, its result waits for all of its output, it ends with
// its connection, and nothing of it is kept.
func TestLooseCommands(t *testing.T) {
	fed := func(e *pawlv1.Execute) { e.GetExec().Stdin = true }
	within(t, func(r *rig) {
		r.send(execute("a", loose, line("cat; warn oh; exit 3"), fed))
		r.want("accepted a")
		r.input("a", 0, "hel", false, "")
		r.want("input ack a 3")
		r.input("a", 3, "lo", true, "")
		r.want("output a STDOUT 0+5", "output a STDERR 0+3", "result a exit 3")
		r.ack("a")
		time.Sleep(time.Second)
		if held := r.box.Held(); len(held) != 0 {
			t.Errorf("the sandbox still has %v", held)
		}
		r.send(execute("slow", loose, line(fmt.Sprintf("bytes %d", 2*DefaultWindow))))
		time.Sleep(time.Minute)
		if got := brief(r.take()); strings.Contains(got, "result") {
			t.Errorf("the result came before the output: %s", got)
		}
		r.send(execute("left", loose, line("sleep 1h")))
		r.take()
		r.connect()
		time.Sleep(time.Minute)
		if held := r.box.Held(); len(held) != 0 {
			t.Errorf("after the end of its connection the sandbox has %v", held)
		}
	})
}

func edit(id, path, old, now string, all bool) *pawlv1.Execute {
	return execute(id, func(e *pawlv1.Execute) {
		e.Verb = &pawlv1.Execute_EditFile{EditFile: &pawlv1.EditFile{
			Path: path, OldText: old, NewText: now,
			ReplaceAll: all,
		}}
	})
}

// Edits of one file at the same time all survive, whatever it is called.
func TestParallelEdits(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("d/f", "a b c d e f")
		for i, name := range []string{"d/f", "d/./f", "/box/d/f", "d/../d/f", "d/f", "d//f"} {
			old := string(rune('a' + i))
			r.send(edit(old, name, old, strings.ToUpper(old)+"$&", false))
		}
		r.take()
		if got, _ := r.box.Get("d/f"); got != "A$& B$& C$& D$& E$& F$&" {
			t.Errorf("%q", got)
		}
	})
}

func TestEditErrors(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("f", "one two two\r\nx\r\n")
		for i, c := range []struct {
			old, now, want string
			all            bool
		}{
			{"", "x", "empty", false},
			{"nope", "x", "not found", false},
			{"two", "x", "2 times", false},
			{"two", "two", "same", true},
			{" x", "y", "begins at line 2 differs only in white space", false},
		} {
			id := fmt.Sprint(i)
			r.send(edit(id, "f", c.old, c.now, c.all))
			got := r.take()
			f := got[len(got)-1].GetResult().GetFailure()
			if f.GetReason() != "INVALID_ARG" || !strings.Contains(f.GetMessage(), c.want) {
				t.Errorf("%q: %v", c.old, f)
			}
		}
		r.send(edit("all", "f", "two", "2", true))
		r.want("accepted all", "result all edit 2")
		if got, _ := r.box.Get("f"); got != "one 2 2\r\nx\r\n" {
			t.Errorf("%q", got)
		}
		r.send(edit("lines", "f", "2\nx\n", "2\ny\nz\n", false))
		r.want("accepted lines", "result lines edit 1")
		if got, _ := r.box.Get("f"); got != "one 2 2\r\ny\r\nz\r\n" {
			t.Errorf("%q", got)
		}
		r.send(edit("note", "f", "1: y\n2: z\n", "", false))
		got := r.take()
		if e := got[len(got)-1].GetResult().GetEdit(); !strings.Contains(e.GetNote(), "line numbers") {
			t.Errorf("got %v", e)
		}
		r.send(edit("none", "none", "a", "b", true))
		r.want("accepted none", "result none NOT_FOUND")
	})
}

// Relative paths are below the call's working directory; the environment of the call is over its own.
func TestCwdAndEnv(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("sub/f", "content\n")
		at := func(e *pawlv1.Execute) { e.Cwd = "sub"; e.Env = map[string]string{"A": "1", "B": "1"} }
		r.send(execute("t", textVerb("f"), at))
		r.want("accepted t", `result t text "content\n"`)
		r.send(execute("x", at, func(e *pawlv1.Execute) {
			e.Verb = &pawlv1.Execute_Exec{Exec: &pawlv1.Exec{
				Command: "env A;env B", Cwd: "deep",
				Env: map[string]string{"B": "2"},
			}}
		}))
		got := r.take()
		if s := string(got[len(got)-1].GetResult().GetExec().GetStdout().GetHead()); s != "A=1 in sub/deep\nB=2 in "+
			"sub/deep\n" {
			t.Errorf("%q", s)
		}
	})
}

// Nothing is told twice on one connection, and a superseded one tells nothing.
func TestSuperseded(t *testing.T) {
	within(t, func(r *rig) {
		old := r.conn
		r.send(execute("a", line("sleep 1m")))
		r.want("accepted a")
		r.s.Connect(testWindow)
		synctest.Wait()
		old.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Cancel{Cancel: &pawlv1.Cancel{
			CallId: "a",
			LaneId: "s", Epoch: 1,
		}}})
		r.want()
		if r.s.running != 1 {
			t.Error("a superseded connection cancelled a call")
		}
	})
}

// A result that no message could carry becomes a failure that one can, and the journal takes it.
func TestResultTooLarge(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("d/"+strings.Repeat("n", maxResult), "")
		r.send(execute("a", func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_ReadDir{ReadDir: &pawlv1.ReadDir{Path: "d"}} }))
		r.want("accepted a", "result a TOO_LARGE")
		r.connect()
		r.want("result a TOO_LARGE")
		r.restart()
		r.want("result a TOO_LARGE")
	})
}

// A result that nobody takes for a day becomes a tombstone everywhere at once: in the journal, in what control is told,
// and in the sandbox.
func TestNobodyTakesTheResult(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("x", line("echo hi")))
		r.send(execute("w", putFile("f", "new")))
		r.take()
		time.Sleep(23 * time.Hour)
		r.connect()
		time.Sleep(2 * attachWait)
		if got := brief(r.take()); got != "result x exit 0, result w file 3" &&
			got != "result w file 3, result x exit 0" {
			t.Error(got)
		}
		time.Sleep(2 * time.Hour)
		r.connect()
		r.want()
		if got := r.inflight(); got != "" {
			t.Errorf("Hello tells of %s", got)
		}
		r.attach("x", 1, 1, 0, 0)
		r.attach("w", 1, 1, 0, 0)
		r.want("status x TOMBSTONE", "status w TOMBSTONE")
		r.send(execute("w", putFile("f", "new")))
		r.want("status w TOMBSTONE")
		if held := r.box.Held(); len(held) != 0 {
			t.Errorf("the sandbox still has %v", held)
		}
		r.restart()
		time.Sleep(2 * attachWait)
		r.want()
	})
}

// A file system that does not answer costs the call that asked it, and nothing else: the call ends with its context and
// gives its slot back, the connection serves others, and the service ends.
func TestHangingFileSystem(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("f", "content")
		r.box.Put("large", strings.Repeat("x", maxKnown+1)) // it is not read before it is accepted
		hang := make(chan struct{})
		defer func() {
			close(hang)
			synctest.Wait()
		}()
		r.box.HangReads = hang
		r.send(readFileCall("file", "large"))
		r.want("accepted file")
		r.box.Hang = hang
		r.send(execute("show", textVerb("f"), pure, timeout(time.Minute)))
		r.send(execute("put", putFile("f", "new"), timeout(time.Minute)))
		r.send(execute("cancelled", textVerb("f"), pure))
		r.take()
		r.send(execute("other", line("echo hi")))
		r.want("accepted other", "output other STDOUT 0+3", "result other exit 0")
		r.cancel("cancelled", 1)
		time.Sleep(2 * time.Second)
		r.want("result cancelled CANCELLED")
		time.Sleep(time.Minute)
		if got := brief(r.take()); got != "result show TIMEOUT, result put INTERRUPTED" &&
			got != "result put INTERRUPTED, result show TIMEOUT" {
			t.Error(got)
		}
		r.send(execute("waits", textVerb("f"), pure))
		r.take()
		began := time.Now()
		r.down()
		if took := time.Since(began); took > closeWait {
			t.Errorf("Close took %v", took)
		}
		for _, want := range []string{"cancelled", "put", "show", "waits"} {
			if !strings.Contains(r.logged(), want) {
				t.Errorf("the log does not say that %s was left:\n%s", want, r.logged())
			}
		}
	})
}

// A file that opens when its call is long over is closed, and not told of.
func TestLateOpen(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("f", "content")
		r.box.Hang = make(chan struct{})
		for _, path := range []string{"f", "none"} {
			e := readFileCall(path, path)
			timeout(time.Minute)(e)
			r.send(e)
		}
		time.Sleep(time.Minute + 2*hangGrace)
		if got := brief(r.take()); strings.Count(got, "TIMEOUT") != 2 {
			t.Error(got)
		}
		close(r.box.Hang)
		r.want()
		if n := r.box.Reading(); n != 0 {
			t.Errorf("%d files are open", n)
		}
	})
}

// A host can afford a limited number of threads that hang.
func TestManyHang(t *testing.T) {
	within(t, func(r *rig) {
		r.slots = 2 * maxHanging
		r.restart()
		r.box.Put("f", "content")
		r.box.Hang = make(chan struct{})
		for i := range maxHanging {
			r.send(execute(fmt.Sprint(i), textVerb("f"), pure, timeout(time.Minute)))
		}
		time.Sleep(time.Minute + 2*hangGrace)
		r.take()
		r.send(execute("more", textVerb("f"), pure))
		r.want("accepted more", "result more UNAVAILABLE")
		close(r.box.Hang)
		synctest.Wait()
		r.send(execute("again", textVerb("f"), pure))
		r.want("accepted again", `result again text "content"`)
	})
}

// A journal that had to forget what is young while the connection was idle ends it with the next frame of control's,
// and not by control's patience.
func TestRenamedJournalEndsAnIdleConnection(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir)
		r.jcfg = journal.Config{NoSync: true, Quota: 4000}
		defer r.end()
		r.up()
		r.connect()
		for n := range 100 { // as acknowledgements do, these take more than the quota
			b := journal.Begin{CallID: "c" + strings.Repeat("x", n), LaneID: "t", Epoch: 1, Dispatch: 1}
			if _, err := r.j.End(b, journal.Finished, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := r.j.Ack(b.CallID); err != nil {
				t.Fatal(err)
			}
		}
		was := r.j.ID()
		time.Sleep(sweepEvery)
		synctest.Wait()
		if r.j.ID() == was {
			t.Fatal("the journal has its id still")
		}
		r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Ping{Ping: &pawlv1.Ping{Nonce: 1}}})
		synctest.Wait()
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		if !r.conn.closed {
			t.Error("the connection goes on")
		}
	})
}
