package tool

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Problems are what is wrong with the request that a schema cannot say.
func (r EditFile) Problems() []string {
	if r.Old == r.New {
		return []string{"newText: is the same as oldText, so nothing would change"}
	}
	return nil
}

// Problems are what is wrong with the request that a schema cannot say.
func (r Exec) Problems() (problems []string) {
	if len(r.Command) > MaxCommand {
		problems = append(problems, fmt.Sprintf(
			"command: has %d bytes, at most %d are possible; write the script to a file first, then run it",
			len(r.Command), MaxCommand))
	}
	if strings.TrimSpace(r.Command) == "" {
		problems = append(problems, "command: must not be blank")
	}
	return problems
}

// Clean implements Reply.
func (r TextReply) Clean(c Cleaner) Reply {
	content := string(r.Content)
	found := spans(content, c.needles)
	if r.LineCut {
		found = append(found, openEnd(content, c.needles)...)
	}
	r.Content = []byte(cover(content, found))
	r.Entries = mapped(r.Entries, c.Text)
	return r
}

// Clean implements Reply.
func (r WriteReply) Clean(Cleaner) Reply { return r }

// Clean implements Reply.
func (r EditReply) Clean(c Cleaner) Reply {
	r.Diff, r.Note = c.Text(r.Diff), c.Text(r.Note)
	return r
}

// Clean implements Reply. Output becomes what a terminal would show of it in the end, see plain.
func (r ExecReply) Clean(c Cleaner) Reply {
	r.Stdout, r.Stderr = cleanCaptured(r.Stdout, c.needles), cleanCaptured(r.Stderr, c.needles)
	return r
}

// Clean implements Reply.
func (r GrepReply) Clean(c Cleaner) Reply {
	r.Note = c.Text(r.Note)
	r.Matches = slices.Clone(r.Matches)
	for i, m := range r.Matches {
		line := strings.TrimSuffix(m.Text, "...")
		found := append(spans(line, c.needles), openEnd(line, c.needles)...)
		r.Matches[i].Path = c.Text(m.Path)
		r.Matches[i].Text = cover(line, found) + m.Text[len(line):]
	}
	return r
}

// Clean implements Reply.
func (r GlobReply) Clean(c Cleaner) Reply {
	r.Paths = mapped(r.Paths, c.Text)
	return r
}

func mapped(in []string, f func(string) string) []string {
	out := slices.Clone(in)
	for i := range out {
		out[i] = f(out[i])
	}
	return out
}

// Ending is Cancelled if the command was.
func (r ExecReply) Ending() Ending {
	if r.Cancelled {
		return Cancelled
	}
	return Finished
}

// Written implements Process.
func (r ExecReply) Written() [2]int64 { return [2]int64{r.Stdout.Size, r.Stderr.Size} }

// Unreadable implements Process.
func (r ExecReply) Unreadable() bool { return r.Stdout.Error != "" || r.Stderr.Error != "" }

// Over implements Process.
func (r ExecReply) Over() bool { return r.Confirmed }

// LogValue implements slog.LogValuer.
func (r ExecReply) LogValue() slog.Value { return slog.GroupValue(slog.Int("exit_code", r.ExitCode)) }
