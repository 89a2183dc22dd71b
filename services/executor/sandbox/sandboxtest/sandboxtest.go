// Package sandboxtest is the conformance suite of sandbox.Sandbox. Every implementation runs all of it, with real files
// and real processes:
//
//	func TestSandbox(t *testing.T) { sandboxtest.Run(t, func(t *testing.T) sandbox.Sandbox { … }) }
//
// Invariant: nothing here knows which sandbox it tests; what it expects is the contract.
package sandboxtest

import (
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// patience bounds every wait; nothing takes that long when it works.
const patience = 30 * time.Second

// Run tests what open makes. open gives each test a sandbox with an empty Root of its own and cleans up with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) sandbox.Sandbox) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"files", fileTests}, {"dirs", dirTests}, {"commands", commandTests}, {"endings", endingTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, tt := range group.tests {
				t.Run(tt.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
					defer cancel()
					tt.run(&bench{T: t, ctx: ctx, sb: open(t)})
				})
			}
		})
	}
}

type test struct {
	name string
	run  func(b *bench)
}

// bench is one test with its sandbox.
type bench struct {
	*testing.T
	ctx context.Context
	sb  sandbox.Sandbox
}

func (b *bench) path(name string) string { return path.Join(b.sb.Root(), name) }

func (b *bench) write(name, content string) {
	b.Helper()
	if err := b.tryWrite(name, content); err != nil {
		b.Fatalf("writing %q: %v", name, err)
	}
}

func (b *bench) tryWrite(name, content string) error {
	w, err := b.sb.Create(b.ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, strings.NewReader(content)); err != nil {
		return err
	}
	return w.Commit()
}

func (b *bench) read(name string) string {
	b.Helper()
	f, i, err := b.sb.Open(b.ctx, name)
	if err != nil {
		b.Fatalf("opening %q: %v", name, err)
	}
	defer f.Close()
	all, err := io.ReadAll(f)
	if err != nil {
		b.Fatalf("reading %q: %v", name, err)
	}
	if i.Size != int64(len(all)) || !i.IsFile {
		b.Errorf("%q: info %+v for %d bytes", name, i, len(all))
	}
	return string(all)
}

func (b *bench) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Errorf("got error %v, want %v", err, want)
	}
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) start(id string, cmd sandbox.Command) sandbox.Exec {
	b.Helper()
	x, err := b.sb.Start(b.ctx, id, cmd)
	if err != nil {
		b.Fatalf("starting %s: %v", id, err)
	}
	return x
}

func (b *bench) wait(x sandbox.Exec) sandbox.Exit {
	b.Helper()
	select {
	case <-x.Done():
	case <-time.After(patience):
		b.Fatal("the command does not end")
	}
	return x.Exit()
}

// result is a command that ended.
type result struct {
	sandbox.Exit
	stdout, stderr string
}

func (b *bench) sh(line string) result { b.Helper(); return b.exec(sandbox.Command{Line: line}) }

func (b *bench) exec(cmd sandbox.Command) result {
	b.Helper()
	return b.result(b.start("call", cmd))
}

func (b *bench) result(x sandbox.Exec) result {
	b.Helper()
	e := b.wait(x)
	return result{e, b.output(x, sandbox.Stdout), b.output(x, sandbox.Stderr)}
}

func (b *bench) output(x sandbox.Exec, s sandbox.Stream) string {
	b.Helper()
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := x.ReadOutput(s, buf, int64(len(all)))
		all = append(all, buf[:n]...)
		if errors.Is(err, io.EOF) {
			check(b, "the size of what was read", x.Size(s), int64(len(all)))
			return string(all)
		}
		if err != nil || n == 0 {
			b.Fatalf("reading output at %d: %d, %v", len(all), n, err)
		}
	}
}

// await waits until a running command has written want, in all, to stdout.
func (b *bench) await(x sandbox.Exec, want string) {
	b.Helper()
	deadline := time.After(patience)
	for {
		changed := x.Changed()
		buf := make([]byte, 4096)
		n, err := x.ReadOutput(sandbox.Stdout, buf, 0)
		if string(buf[:n]) == want && x.Size(sandbox.Stdout) == int64(n) {
			return
		}
		if err != nil {
			b.Fatalf("waiting for %q: have %q, %v", want, buf[:n], err)
		}
		select {
		case <-changed:
		case <-deadline:
			b.Fatalf("waiting for %q: have %q", want, buf[:n])
		}
	}
}

func check[V comparable](b *bench, what string, got, want V) {
	b.Helper()
	if got != want {
		b.Errorf("%s: got %v, want %v", what, short(got), short(want))
	}
}

func short(v any) any {
	if s, ok := v.(string); ok && len(s) > 300 {
		return s[:150] + " … " + s[len(s)-150:]
	}
	return v
}
