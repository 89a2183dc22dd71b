package proctest

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = time.Minute

func shell(t *testing.T, line string) (*Process, *Log) {
	t.Helper()
	l := &Log{}
	p, err := Start("/bin/sh", []string{"-c", line}, t.TempDir(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Done()
	})
	return p, l
}

func TestAwait(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, l := shell(t, `echo hello; echo >&2 world; exec sleep 1000`)
	for _, text := range []string{"hello\n", "world\n"} {
		if err := l.Await(ctx, p, text); err != nil {
			t.Error(err)
		}
	}
	over, now := context.WithCancel(ctx)
	now()
	if err := l.Await(over, p, "never"); err == nil || !strings.Contains(err.Error(), "world") {
		t.Error(err)
	}
}

func TestAProgramThatEndedSaysNothingMore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, l := shell(t, `echo why; exit 3`)
	if err := l.Await(ctx, p, "ready"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Error(err)
	}
	if err := l.Await(ctx, p, "why"); err != nil {
		t.Error(err)
	}
}

func TestEndIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, l := shell(t, `trap "" TERM; echo ready; exec sleep 1000`)
	if err := l.Await(ctx, p, "ready"); err != nil {
		t.Fatal(err)
	}
	if err := p.End(syscall.SIGTERM, time.Nanosecond); err == nil {
		t.Error("a process that does not end gave no error")
	}
	select {
	case <-p.Done():
	default:
		t.Error("the process lives")
	}
	if err := p.End(syscall.SIGTERM, patience); err != nil {
		t.Error("ending what has ended:", err)
	}
}
