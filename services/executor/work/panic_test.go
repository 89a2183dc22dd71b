package work

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// poisoned is a sandbox with a bug.
type poisoned struct{ sandbox.Sandbox }

func (poisoned) Open(context.Context, string) (io.ReadSeekCloser, sandbox.Info, error) {
	panic("poison")
}

func (poisoned) Create(context.Context, string) (sandbox.FileWriter, error) { panic("poison") }

func (poisoned) Start(context.Context, string, sandbox.Command) (sandbox.Exec, error) {
	panic("poison")
}

// A panic in a call ends that call: the process may be a whole control plane. What may have happened is not known.
func TestPanicInACall(t *testing.T) {
	for name, c := range map[string]struct {
		verb   func(*pawlv1.Execute)
		safety pawlv1.Safety
		want   string
	}{
		"a read":                     {textVerb("f"), pawlv1.Safety_SAFETY_PURE, "INTERNAL"},
		"a write that may be redone": {putFile("f", "x"), pawlv1.Safety_SAFETY_IDEMPOTENT, "INTERNAL"},
		"a write":                    {putFile("f", "x"), pawlv1.Safety_SAFETY_AT_MOST_ONCE, "INTERRUPTED"},
		"a command":                  {line("echo hi"), pawlv1.Safety_SAFETY_AT_MOST_ONCE, "INTERRUPTED"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, dir)
				r.sb, r.slots = poisoned{r.box}, 1
				defer r.end()
				r.up()
				r.connect()
				for _, id := range []string{"one", "two"} { // the slot is free again
					r.send(execute(id, c.verb, func(e *pawlv1.Execute) { e.Safety = c.safety }))
					if got := brief(r.take()); !strings.HasSuffix(got, "result "+id+" "+c.want) {
						t.Errorf("it comes to %s, want %s", got, c.want)
					}
				}
				r.down()
				if log := r.logged(); strings.Count(log, "poison") < 2 || !strings.Contains(log, "panic_test.go") {
					t.Errorf("the log lacks the panic or its stack: %s", log)
				}
				r.up()
				r.connect()
			})
		})
	}
}

// poisonedFiles is a sandbox whose files cannot be read without a panic.
type poisonedFiles struct{ sandbox.Sandbox }

func (p poisonedFiles) Open(ctx context.Context, path string) (io.ReadSeekCloser, sandbox.Info, error) {
	f, info, err := p.Sandbox.Open(ctx, path)
	return poisonedFile{f}, info, err
}

type poisonedFile struct{ io.ReadSeekCloser }

func (poisonedFile) Read([]byte) (int, error) { panic("poison") }

// A panic while a file is read for its watcher is the end of the call: nobody waits for the rest.
func TestPanicInAFile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir)
		r.sb = poisonedFiles{r.box}
		r.box.Put("f", "content")
		defer r.end()
		r.up()
		r.connect()
		r.send(readFileCall("a", "f"))
		time.Sleep(time.Minute)
		r.want("accepted a", "result a INTERNAL")
	})
}
