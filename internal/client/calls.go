package client

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/plural"
)

const (
	// headLines and tailLines are what is shown of a call's output: its beginning, and its end when the call has
	// failed.
	headLines = 10
	tailLines = 5
	// slow is how long a call runs before its output is of interest by itself.
	slow = time.Second
	// longLine is how much of a line is shown where there are no columns to keep to.
	longLine = 500
	// maxLine is how much of a line is kept until its end comes.
	maxLine = 4 << 10
)

// shownCall is what the printer knows of a call.
type shownCall struct {
	name    string
	title   string // its command or path
	began   time.Time
	waits   bool
	open    bool // its output is shown
	whole   bool // and all of it
	partial []byte
	head    []string // lines that are not shown yet
	lines   int      // so far
	tail    []string // the last lines after the head
}

// title is what a call is about: its command, its path, its pattern, or all of its arguments.
func title(t *pawlv1.ToolCall) string {
	args := t.GetArgs().GetFields()
	var parts []string
	for _, name := range []string{"command", "pattern", "path"} {
		if v := args[name].GetStringValue(); v != "" {
			parts = append(parts, v)
		}
	}
	if len(parts) == 0 && len(args) > 0 {
		return what(t.GetArgs())
	}
	return strings.Join(parts, " in ")
}

// callsOf are those that an answer asks for.
func callsOf(answer *pawlv1.Entry) (calls []*pawlv1.ToolCall) {
	for _, b := range answer.GetMessage().GetContent() {
		if t := b.GetToolCall(); t != nil {
			calls = append(calls, t)
		}
	}
	return calls
}

// titleOf is the title of a call that the last answer of a task asks for: the first that no call has taken, as two may
// have one id.
func (p *printer) titleOf(task, name, providerID string) string {
	asked := p.asked[task]
	for i, t := range asked {
		if t != nil && t.GetId() == providerID && t.GetName() == name {
			asked[i] = nil
			return title(t)
		}
	}
	return ""
}

// call is what is known of a call, new if nothing is.
func (p *printer) call(id, name, providerID string) *shownCall {
	c := p.calls[id]
	if c == nil {
		c = &shownCall{name: name, title: p.titleOf("", name, providerID)}
		p.calls[id] = c
	}
	return c
}

// about is a call in a note.
func (p *printer) about(c *shownCall, how string) string {
	text := "[" + c.name + how + "]"
	if c.title != "" {
		width := longLine
		if p.notes.width > 0 {
			width = max(p.notes.width-len(text)-2, 20)
		}
		text += " " + oneLine(c.title, width)
	}
	return text
}

func (p *printer) started(t *pawlv1.ToolStarted, at time.Time) {
	c := p.call(t.GetCallId(), t.GetName(), t.GetToolCallId())
	*c = shownCall{name: c.name, title: c.title, began: at, whole: p.verbose}
	if t.GetExecutorId() == "" { // why follows, or the control plane makes the call itself
		p.starting = append(p.starting, c)
		return
	}
	p.went(c)
	p.note(p.about(c, " on "+t.GetExecutorId()))
}

// went takes note that enough was said of a call that was starting.
func (p *printer) went(c *shownCall) {
	p.starting = slices.DeleteFunc(p.starting, func(one *shownCall) bool { return one == c })
}

func (p *printer) waiting(w *pawlv1.ToolWaiting) {
	c := p.call(w.GetCallId(), w.GetName(), w.GetToolCallId())
	p.went(c)
	if w.GetReason() == "APPROVAL" {
		return // ApprovalRequested has said more
	}
	c.waits = true
	p.note(p.about(c, " waits"))
	p.why(w)
}

// why says what a call waits for.
func (p *printer) why(w *pawlv1.ToolWaiting) {
	text := w.GetMessage() + "; waits since " + clock(w.GetSince().AsTime())
	if w.GetUntil() != nil {
		text += ", until " + clock(w.GetUntil().AsTime())
	}
	p.note("  " + text)
}

// output takes a piece of a call's output.
func (p *printer) output(o *pawlv1.ToolOutput, at time.Time) {
	c := p.calls[o.GetCallId()]
	if c == nil {
		c = &shownCall{name: "a call", began: at, whole: p.verbose}
		p.calls[o.GetCallId()] = c
	}
	if c.waits {
		c.waits = false
		p.note(p.about(c, " runs on"))
	}
	if n := o.GetSkipped(); n > 0 {
		c.take(fmt.Sprintf("(%s of output could not be had)", plural.Of(n, "byte")))
	}
	c.write(o.GetData())
	c.open = c.open || p.verbose || at.Sub(c.began) >= slow
	p.showHead(c)
}

// write takes what was printed, line by line. A line that is too long comes in pieces, which end where a character
// does.
func (c *shownCall) write(data []byte) {
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if room := maxLine - len(c.partial); len(line) > room {
			for room > 0 && room > maxLine-len(c.partial)-utf8.UTFMax && !utf8.RuneStart(data[room]) {
				room--
			}
			line, rest, whole = data[:room], data[room:], true
		}
		c.partial, data = append(c.partial, line...), rest
		if whole {
			c.take(string(c.partial))
			c.partial = c.partial[:0]
		}
	}
}

// take counts a line, and keeps it if it may be shown.
func (c *shownCall) take(line string) {
	line = strings.TrimRight(line, "\r")
	line = line[strings.LastIndexByte(line, '\r')+1:] // of a line that was redrawn its last state
	if c.lines++; c.whole || c.lines <= headLines {
		c.head = append(c.head, line)
		return
	}
	if c.tail = append(c.tail, line); len(c.tail) > tailLines {
		c.tail = c.tail[1:]
	}
}

// showHead writes the lines that are to be shown.
func (p *printer) showHead(c *shownCall) {
	if !c.open {
		return
	}
	p.show(c.head)
	c.head = nil
}

func (p *printer) show(lines []string) {
	for _, l := range lines {
		p.lineEnd()
		p.dim("  | " + cli.Visible(l) + "\n")
	}
}

// progress says how far a call is.
func (p *printer) progress(g *pawlv1.ToolProgress) {
	c := p.call(g.GetCallId(), g.GetName(), g.GetToolCallId())
	p.went(c)
	text := strconv.FormatFloat(g.GetProgress(), 'g', 6, 64)
	if g.GetTotal() > 0 {
		text += " of " + strconv.FormatFloat(g.GetTotal(), 'g', 6, 64)
	}
	if g.GetMessage() != "" {
		text += ": " + g.GetMessage()
	}
	p.note(p.about(c, " "+cli.Visible(text)))
}

// toolsChanged says what the model can use now, and what not.
func (p *printer) toolsChanged(t *pawlv1.ToolsChanged) {
	for _, what := range []struct {
		text  string
		names []string
	}{{"the model has more tools: ", t.GetAdded()}, {"tools are gone: ", t.GetRemoved()}} {
		if len(what.names) > 0 {
			p.note("[" + what.text + cli.Visible(strings.Join(what.names, ", ")) + "]")
		}
	}
	for _, text := range t.GetMissing() {
		p.note("[" + cli.Visible(text) + "]")
	}
}

func (p *printer) finished(f *pawlv1.ToolFinished) {
	c := p.call(f.GetCallId(), f.GetName(), f.GetToolCallId())
	p.went(c)
	if len(c.partial) > 0 {
		c.take(string(c.partial))
	}
	took := f.GetDuration().AsDuration()
	c.open = c.open || p.verbose || f.GetIsError() || took >= slow
	p.showHead(c)
	hidden := c.lines - headLines
	if p.verbose {
		hidden = 0
	}
	if tail := c.tail; f.GetIsError() && hidden > 0 {
		if more := hidden - len(tail); more > 0 {
			p.note(fmt.Sprintf("  … %d more lines", more))
		}
		p.show(tail)
	} else if c.open && hidden > 0 {
		p.note(fmt.Sprintf("  … %d more lines; --verbose shows all", hidden))
	}
	how := ""
	switch {
	case f.GetState() == "lost":
		how = ": its outcome is unknown"
	case f.GetState() == "cancelled":
		how = " was cancelled"
	case f.GetIsError():
		how = " failed"
	case took < slow:
		delete(p.calls, f.GetCallId())
		return
	default:
		how = " is done"
	}
	p.note(fmt.Sprintf("[%s%s after %s]", c.name, how, took.Round(100*time.Millisecond)))
	delete(p.calls, f.GetCallId())
}
