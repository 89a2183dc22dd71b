package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/pawl-dev/pawl/internal/hostenv"
)

// Interrupts decides what SIGINT does: it ends the program's context unless a command has asked for it.
type Interrupts struct {
	mu   sync.Mutex // guards what follows
	take chan struct{}
}

type interruptsKey struct{}

// WithInterrupts returns a context for a program, and what its interrupts go through.
func WithInterrupts(ctx context.Context) (context.Context, *Interrupts) {
	i := &Interrupts{}
	return context.WithValue(ctx, interruptsKey{}, i), i
}

// TakeInterrupts lets a command have the interrupts until release is called. In a context without Interrupts none come.
func TakeInterrupts(ctx context.Context) (taken <-chan struct{}, release func()) {
	i, ok := ctx.Value(interruptsKey{}).(*Interrupts)
	if !ok {
		return nil, func() {}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.take = make(chan struct{}, 3)
	return i.take, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.take = nil
	}
}

// Interrupt hands an interrupt to the command that asked for it; false when none has, or it does not keep up.
func (i *Interrupts) Interrupt() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case i.take <- struct{}{}:
		return true
	default:
		return false
	}
}

// Main runs a program, which tells its errors itself, and ends with their code. The first signal that no command
// asks for ends its context, the next one ends the process at once. Other processes do not see what the program was
// configured with.
func Main(run func(context.Context) error) {
	if err := hostenv.Conceal(); err != nil {
		Complain(os.Stderr, filepath.Base(os.Args[0]),
			fmt.Errorf("other processes may see this one's secrets: %w", err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ctx, interrupts := WithInterrupts(ctx)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if s == syscall.SIGINT && interrupts.Interrupt() {
				continue
			}
			signal.Stop(signals) // the next one does what it does without us
			cancel()
			return
		}
	}()
	os.Exit(Code(run(ctx)))
}
