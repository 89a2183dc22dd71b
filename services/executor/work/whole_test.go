package work

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// The result of a command that was asked for whole output has all of both streams, also when the daemon has died
// meanwhile, unless they are too large together or were not captured.
func TestWholeOutputOfACommand(t *testing.T) {
	whole := func(e *pawlv1.Execute) { e.GetExec().Whole = true }
	within(t, func(r *rig) {
		most := maxWhole - len("oh\n")
		r.send(execute("lived", line(fmt.Sprintf("bytes %d; warn oh", most)), whole))
		r.send(execute("died", line(fmt.Sprintf("sleep 1m; bytes %d; warn oh", most)), whole))
		r.send(execute("large", line(fmt.Sprintf("bytes %d; warn oh", most+1)), whole))
		r.send(execute("short", line("echo hi"), whole))
		r.send(execute("silent", line("exit 0"), whole))
		r.send(execute("ordinary", line(fmt.Sprintf("bytes %d; warn oh", most))))
		pass(time.Second)
		r.take()
		r.restart()
		pass(2 * time.Minute)
		r.connect()
		pass(time.Minute)
		got := map[string]string{}
		for _, m := range r.take() {
			if res := m.GetResult(); res != nil {
				x := res.GetExec()
				got[res.GetCallId()] = fmt.Sprint(x.GetWhole(), " ", len(x.GetStdout().GetHead()), " ",
					x.GetStdout().GetCut(), " ", len(x.GetStderr().GetHead()))
			}
		}
		all := fmt.Sprint("true ", most, " 0 3")
		want := map[string]string{
			"lived": all, "died": all, "short": "true 3 0 0", "silent": "true 0 0 0",
			"large":    fmt.Sprint("false ", maxHead, " ", most+1-maxHead-maxTail, " 3"),
			"ordinary": fmt.Sprint("false ", maxHead, " ", most-maxHead-maxTail, " 3"),
		}
		if !maps.Equal(got, want) {
			t.Errorf("whole, head, cut and standard error are %v, want %v", got, want)
		}
	})
}

// Output that could not be read is not taken for all of it.
func TestWholeOutputThatCannotBeRead(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("echo hi; sleep 1s"), func(e *pawlv1.Execute) { e.GetExec().Whole = true }))
		r.take()
		r.box.Command("a").FailReads(errNoDescriptor)
		pass(time.Minute)
		for _, m := range r.take() {
			if x := m.GetResult().GetExec(); x != nil && (x.GetWhole() || x.GetStdout().GetError() == "") {
				t.Errorf("the result is %v", x)
			}
		}
	})
}

// contentOf asks for a whole file.
func contentOf(path string) func(*pawlv1.Execute) {
	return func(e *pawlv1.Execute) {
		e.Safety = pawlv1.Safety_SAFETY_PURE
		e.Verb = &pawlv1.Execute_ReadWhole{ReadWhole: &pawlv1.ReadWhole{Path: path}}
	}
}

// A whole file comes as it is, and not a part of one.
func TestReadWhole(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Put("odd", "a\x00\xff\r\n")
		r.box.Put("empty", "")
		r.box.Put("most", strings.Repeat("x", maxWhole))
		r.box.Put("more", strings.Repeat("x", maxWhole+1))
		for path, want := range map[string]string{
			"odd": "a\x00\xff\r\n", "empty": "", "most": strings.Repeat("x", maxWhole), "more": "TOO_LARGE",
			"none": "NOT_FOUND",
		} {
			r.send(execute(path, contentOf(path)))
			frames := r.take()
			if len(frames) != 2 || frames[1].GetResult() == nil {
				t.Fatalf("%s: %s", path, brief(frames))
			}
			res := frames[1].GetResult()
			got := res.GetContent()
			if res.GetFailure() != nil {
				if res.GetFailure().GetReason() != want {
					t.Errorf("%s: %v", path, res.GetFailure())
				}
				continue
			}
			sum := sha256.Sum256([]byte(want))
			if string(got.GetContent()) != want || !bytes.Equal(got.GetSha256(), sum[:]) {
				t.Errorf("%s: %d bytes, hash %x", path, len(got.GetContent()), got.GetSha256())
			}
		}
	})
}

// What cannot be obeyed is refused before anything is done.
func TestRefusedContent(t *testing.T) {
	within(t, func(r *rig) {
		for name, w := range map[string]*pawlv1.WriteFile{
			"mode":    {Path: "f", Mode: new(uint32(0o4755))},
			"large":   {Path: "f", Content: make([]byte, maxWhole+1)},
			"archive": {Path: "f", Chunked: true, Archive: pawlv1.Archive_ARCHIVE_TAR, Mode: new(uint32(0o644))},
		} {
			e := execute(name, func(e *pawlv1.Execute) { e.Verb = &pawlv1.Execute_WriteFile{WriteFile: w} })
			if w.GetChunked() {
				loose(e)
			}
			r.send(e)
			r.want("rejected " + name + " UNSUPPORTED")
		}
		r.send(execute("both", line("true"), func(e *pawlv1.Execute) {
			e.GetExec().Whole, e.GetExec().StdoutImage = true, true
		}))
		r.want("rejected both UNSUPPORTED")
	})
}
