package submission

import (
	"context"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/lane"
)

const (
	// maxCommand is the longest command in bytes.
	maxCommand = 64 << 10
	// longestCommand is how long a command may be allowed to run.
	longestCommand = 24 * time.Hour
)

// Failures of Shell.
var (
	ErrCommand = errs.New(errs.InvalidArgument, "COMMAND", "").WithFacts(map[string]string{"field": "command"},
		"the command must not be blank and has at most 64 KiB")
	ErrShellTimeout = errs.New(errs.InvalidArgument, "TIMEOUT", "").WithFacts(map[string]string{"field": "timeout"},
		"a command's timeout is above 0 and at most 24 hours")
	// ErrCwd refuses a directory.
	ErrCwd = errs.New(errs.InvalidArgument, "CWD", "").WithFacts(map[string]string{"field": "cwd"},
		"the directory of a command has at most 4096 bytes and no NUL")
)

// Command is a command to run in the workspace of a session.
type Command struct {
	Text    string
	Cwd     string        // "" is the agent's
	Timeout time.Duration // 0 is no limit of its own
}

// Shell admits a command: it becomes a part of the conversation, and no model is asked. in has neither a message nor
// options. Errors: those of Submit, ErrCommand, ErrShellTimeout and ErrCwd.
func (s *Service) Shell(ctx context.Context, in Input, c Command) (Admitted, error) {
	switch {
	case strings.TrimSpace(c.Text) == "" || len(c.Text) > maxCommand || strings.ContainsRune(c.Text, 0):
		return Admitted{}, ErrCommand
	case c.Timeout < 0 || c.Timeout > longestCommand:
		return Admitted{}, ErrShellTimeout
	case len(c.Cwd) > 4096 || strings.ContainsRune(c.Cwd, 0):
		return Admitted{}, ErrCwd
	}
	in.Message = "Run this shell command:\n\n" + fenced(c.Text)
	in.Options = lane.Options{Shell: &lane.Shell{Command: c.Text, Cwd: c.Cwd, Timeout: c.Timeout.Seconds()}}
	return s.Submit(ctx, in)
}

// fenced is a text as a block of code in Markdown, which nothing in it ends.
func fenced(text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "sh\n" + text + "\n" + fence
}
