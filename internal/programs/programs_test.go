package programs

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = time.Minute

func shell(t *testing.T, line string) *Process {
	t.Helper()
	p, err := Programs{dir: "/bin"}.Start("sh", []string{"-c", line}, []string{"GREETING=hello"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Done()
	})
	return p
}

func TestAwaitSaid(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := shell(t, `echo $GREETING; echo >&2 world; exec sleep 1000`)
	for _, text := range []string{"hello\n", "world\n"} {
		if err := p.AwaitSaid(ctx, text); err != nil {
			t.Error(err)
		}
	}
}

func TestAProgramThatEndsSaysNothingMore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := shell(t, `echo why; exit 3`)
	err := p.AwaitSaid(ctx, "ready")
	if err == nil || !strings.Contains(err.Error(), "why") || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
	if err := p.AwaitSaid(ctx, "why"); err != nil {
		t.Error(err)
	}
}

func TestEndIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := shell(t, `trap "" TERM; echo ready; exec sleep 1000`)
	if err := p.AwaitSaid(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	over, now := context.WithCancel(ctx)
	now()
	if err := p.End(over, syscall.SIGTERM); err == nil {
		t.Error("a process that does not end gave no error")
	}
	select {
	case <-p.Done():
	default:
		t.Error("the process lives")
	}
	if err := p.End(over, syscall.SIGTERM); err != nil {
		t.Error("ending what has ended:", err)
	}
}
