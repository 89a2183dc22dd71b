package builtin

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// noOutput stands for the output of a command that wrote nothing.
const noOutput = "(no output)"

// timeoutCode is the exit code of a command that its timeout ended.
const timeoutCode = 124

// RenderExec shows what a command came to: its output, and how it ended.
func RenderExec(req tool.Exec, r tool.ExecReply) tool.Result {
	code := r.ExitCode
	if r.TimedOut {
		code = timeoutCode
	}
	text, unread := renderOutput(r.Stdout, r.Stderr), outputErrors(r)
	if len(unread) > 0 && text == noOutput {
		text = "(the output is missing)"
	}
	if notes := exitNotes(req, r, code); len(notes) > 0 {
		text += "\n\n" + strings.Join(notes, "\n")
	}
	details := tool.Fields{"command": clip.Sanitize(req.Command), "exitCode": code}
	if r.TimedOut {
		details["timedOut"] = true
	}
	if r.Cancelled {
		details["cancelled"] = true
	}
	if r.TimedOut || r.Cancelled {
		details["confirmed"] = r.Confirmed
	}
	if len(unread) > 0 {
		details["outputError"] = clip.Sanitize(strings.Join(unread, "; "))
	}
	return tool.Result{Text: text, IsError: r.Cancelled || len(unread) > 0, Details: details.Encode()}
}

// exitNotes tell how the command ended, unless it simply succeeded.
func exitNotes(req tool.Exec, r tool.ExecReply, code int) []string {
	var notes []string
	switch {
	case r.Cancelled:
		notes = append(notes, "Command was cancelled before it finished.")
	case r.TimedOut && req.TimeoutSeconds > 0:
		notes = append(notes, "Command timed out after "+seconds(req.TimeoutSeconds)+".")
	case r.TimedOut:
		notes = append(notes, "Command timed out.")
	}
	switch {
	case (r.Cancelled || r.TimedOut) && !r.Confirmed:
		notes = append(notes, "It could not be confirmed that all of its processes have ended: check before you "+
			"start it again.")
	case r.Cancelled:
		notes = append(notes, "All of its processes have ended.")
	}
	switch n := r.Leftovers; {
	case n == 1:
		notes = append(notes, "A background process of the command was ended with it: what needs it has to run in the "+
			"same command.")
	case n > 1:
		notes = append(notes, fmt.Sprintf("%d background processes of the command were ended with it: what needs them "+
			"has to run in the same command.", n))
	}
	for _, err := range outputErrors(r) {
		notes = append(notes, "The output is not complete: "+clip.Sanitize(err)+".")
	}
	if code != 0 {
		notes = append(notes, fmt.Sprintf("Command exited with code %d", code))
	} else if len(outputErrors(r)) > 0 {
		notes = append(notes, "Command ended with exit code 0: it need not run again only because its output is "+
			"missing.")
	}
	return notes
}

// outputErrors are the reasons why output is missing.
func outputErrors(r tool.ExecReply) (all []string) {
	for _, c := range []tool.Captured{r.Stdout, r.Stderr} {
		if c.Error != "" {
			all = append(all, c.Error)
		}
	}
	return all
}

func seconds(s float64) string {
	if s == 1 {
		return "1 second"
	}
	return strconv.FormatFloat(s, 'f', -1, 64) + " seconds"
}

// renderOutput is standard output, then standard error, within the bounds.
func renderOutput(stdout, stderr tool.Captured) string {
	var o output
	o.add(stdout)
	if err := stderr; len(err.Head)+len(err.Tail) > 0 || err.Cut > 0 {
		if o.text != "" && !strings.HasSuffix(o.text, "\n") {
			o.text += "\n"
		}
		o.add(err)
	}
	o.trim()
	if o.text == "" && len(o.gaps) == 0 {
		return noOutput
	}
	return o.bound()
}

// output is text with gaps where bytes were cut before they came here.
type output struct {
	text string
	gaps []gap
}

type gap struct {
	at    int // position in the text
	bytes int64
}

func (o *output) add(c tool.Captured) {
	if c.Cut <= 0 {
		o.text += clip.Sanitize(string(c.Head) + string(c.Tail)) // one piece: a character may lie across
		return
	}
	o.text += clip.Sanitize(string(c.Head))
	o.gaps = append(o.gaps, gap{at: len(o.text), bytes: c.Cut})
	o.text += clip.Sanitize(string(c.Tail))
}

// trim takes white space off the end and empty lines off the beginning; indentation stays.
func (o *output) trim() {
	o.text = strings.TrimRight(o.text, " \t\r\n")
	before := len(o.text)
	o.text = strings.TrimLeft(o.text, "\r\n")
	for i := range o.gaps {
		o.gaps[i].at = min(max(o.gaps[i].at-(before-len(o.text)), 0), len(o.text))
	}
}

// Of output that is too long the head keeps two fifths and the tail the rest, less room for the marker: errors come
// last.
const (
	outputHeadBytes = tool.MaxText * 2 / 5
	outputHeadLines = tool.MaxLines * 2 / 5
	outputTailBytes = tool.MaxText - outputHeadBytes - 512
	outputTailLines = tool.MaxLines - outputHeadLines - 8
)

// bound keeps head and tail and puts a marker wherever something is missing.
func (o *output) bound() string {
	head, tail := len(o.text), len(o.text)
	if len(o.text) > tool.MaxText || clip.CountLines(o.text) > tool.MaxLines {
		head, tail = outputHead(o.text), outputTail(o.text)
	}
	var b strings.Builder
	pos := 0
	middle, inside := int64(tail-head), false
	for _, g := range o.gaps {
		if head < tail && head <= g.at && g.at <= tail {
			middle, inside = middle+g.bytes, true
			continue
		}
		if g.at > tail && pos < tail {
			writeCut(&b, o.text, &pos, head, tail, cutMarker(o.text[head:tail], middle, inside))
		}
		writeCut(&b, o.text, &pos, g.at, g.at, cutMarker("", g.bytes, true))
	}
	if head < tail && pos < tail {
		writeCut(&b, o.text, &pos, head, tail, cutMarker(o.text[head:tail], middle, inside))
	}
	b.WriteString(o.text[pos:])
	return strings.TrimRight(b.String(), "\n")
}

// writeCut writes the text up to from, the marker on a line of its own, and goes on at to.
func writeCut(b *strings.Builder, text string, pos *int, from, to int, marker string) {
	b.WriteString(text[*pos:from])
	if from > 0 && text[from-1] != '\n' {
		b.WriteByte('\n')
	}
	b.WriteString(marker + "\n")
	*pos = to
}

// cutMarker tells what is missing; lines are counted only where every missing byte was seen.
func cutMarker(cut string, bytes int64, unseen bool) string {
	if unseen {
		return fmt.Sprintf("[... %d bytes cut ...]", bytes)
	}
	return fmt.Sprintf("[... %d lines, %d bytes cut ...]", clip.CountLines(cut), bytes)
}

// outputHead is where the kept beginning ends: after a whole line, or within one that would take most of the room.
func outputHead(text string) int {
	end, lines := clip.HeadLines(text, outputHeadLines, outputHeadBytes)
	if lines < outputHeadLines && end < outputHeadBytes/2 {
		return clip.Floor(text, outputHeadBytes)
	}
	return end
}

// outputTail is where the kept end begins.
func outputTail(text string) int {
	start, lines := clip.TailLines(text, outputTailLines, outputTailBytes)
	if lines < outputTailLines && len(text)-start < outputTailBytes/2 {
		return clip.Ceil(text, max(len(text)-outputTailBytes, 0))
	}
	return start
}
