package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func TestHelp(t *testing.T) {
	c := &cobra.Command{
		Use:     "program",
		Short:   "Do it",
		Long:    strings.Repeat("long ", 30) + "\n\nSecond.",
		Example: "program --one",
		RunE:    func(*cobra.Command, []string) error { return nil },
	}
	c.Flags().String("one", "x", "`NAME`: one; "+strings.Repeat("word ", 30))
	c.Flags().String("two-that-is-long-enough", "", "`SOMETHING`: two (default: none)")
	c.Flags().BoolP("third", "t", false, "third")
	Group(c.Flags(), "Second heading", "one")
	sub := &cobra.Command{Use: "sub ARG", Short: "Do less", RunE: c.RunE}
	c.AddCommand(sub)
	c.CompletionOptions.DisableDefaultCmd = true
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs([]string{"--help"})
	if err := Execute(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("a line is longer than 80: %q", line)
		}
	}
	for _, want := range []string{
		"Usage:\n  program [flags]\n  program COMMAND\n", "Examples:\n  program --one\n",
		"Commands:\n  sub       " +
			"              Do less\n",
		"\nSecond heading:\n  --one NAME              one; word word", "(default\n                          x)\n",
		"  --two-that-is-long-enough SOMETHING\n                          two (default: " +
			"none)\n", "  -t, --third             third\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

func TestCode(t *testing.T) {
	failed := errors.New("failed")
	for want, err := range map[int]error{
		0: WithCode(nil, Usage), Failed: failed, Usage: fmt.Errorf("more: %w", WithCode(failed, Usage)),
		Unreachable: errors.Join(WithCode(failed, Unreachable), nil),
	} {
		if got := Code(err); got != want || err != nil && !errors.Is(err, failed) {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

// An interrupt is the command's that asks for it, as long as it does.
func TestInterrupts(t *testing.T) {
	ctx, i := WithInterrupts(context.Background())
	if i.Interrupt() {
		t.Error("nobody has asked")
	}
	taken, release := TakeInterrupts(ctx)
	if !i.Interrupt() {
		t.Error("it was not taken")
	}
	<-taken
	release()
	if i.Interrupt() {
		t.Error("it was taken after the release")
	}
	if taken, release := TakeInterrupts(context.Background()); taken != nil {
		t.Error("interrupts from nowhere")
	} else {
		release()
	}
}
