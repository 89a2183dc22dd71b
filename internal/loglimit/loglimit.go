// Package loglimit is a slog.Handler that passes at most one line a second of one kind from one cause.
//
// The kind of a line is its message. Its cause is what it says of error, reason and the parties to it, or, when it
// has neither error nor reason, of its session. Of the lines that are held back the last is written when the second
// is over, with their number as "repeated". Lines below the level info pass as they are.
package loglimit

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
)

// every is how often a line of one kind from one cause may be written.
const every = time.Second

// Handler is the limit before another handler. It may be used concurrently.
type Handler struct {
	next  slog.Handler
	quiet func(error) bool
	known cause // of the attributes that With has added
	lines *lines
}

// New makes a Handler before next. Lines about an error for which quiet is true are for the level debug: something
// else tells of that cause. nil is for none.
func New(next slog.Handler, quiet func(error) bool) *Handler {
	l := &lines{recent: map[string]*line{}}
	l.written.L = &l.mu
	return &Handler{next: next, quiet: quiet, lines: l}
}

// Flush writes what is held back. The logger's handler need not be a Handler.
func Flush(log *slog.Logger) {
	if h, ok := log.Handler().(*Handler); ok {
		h.lines.flush()
	}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	w := *h
	w.next = h.next.WithAttrs(attrs)
	for _, a := range attrs {
		w.known.add(a)
	}
	return &w
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	w := *h
	w.next = h.next.WithGroup(name)
	return &w
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.next.Handle(ctx, r)
	}
	of := h.known
	r.Attrs(func(a slog.Attr) bool { of.add(a); return true })
	if of.err != nil && h.quiet != nil && h.quiet(of.err) {
		if !h.next.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
		return h.next.Handle(ctx, r)
	}
	if h.lines.hold(r.Message+"\n"+of.key(), h.next, r) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// cause is where a line comes from.
type cause struct {
	err      error
	text     string // of error and reason
	parties  string
	sessions string
}

// add looks at an attribute.
func (c *cause) add(a slog.Attr) {
	switch a.Key {
	case "error", "err":
		v := a.Value.Resolve()
		if err, ok := v.Any().(error); ok {
			c.err = err
		}
		c.text += " " + withoutNumbers(v.String())
	case "reason":
		c.text += " " + withoutNumbers(a.Value.Resolve().String())
	case "agent", "model", "executor_id", "replica_id", "addr", "method", "path":
		c.parties += " " + a.Value.Resolve().String()
	case "session_id":
		c.sessions += " " + a.Value.Resolve().String()
	}
}

func (c *cause) key() string {
	if c.text != "" {
		return c.text + "\n" + c.parties
	}
	return c.parties + "\n" + c.sessions
}

// withoutNumbers replaces each word that has a digit, so that ids, ports and sizes make no other cause of an error.
func withoutNumbers(s string) string {
	if !strings.ContainsAny(s, "0123456789") {
		return s
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' })
	for i, w := range words {
		if strings.ContainsAny(w, "0123456789") {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}

// lines is what was written within the last second.
type lines struct {
	mu      sync.Mutex // guards what follows, and what recent holds
	recent  map[string]*line
	writing int       // lines that timers are writing
	written sync.Cond // there are fewer
}

// line is a kind of line from a cause.
type line struct {
	held  int          // lines that were not written
	next  slog.Handler // of the last of them
	last  slog.Record
	timer *time.Timer
}

// hold reports whether a line has to wait, and keeps it then.
func (l *lines) hold(key string, next slog.Handler, r slog.Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.recent[key]; one != nil {
		one.held++
		one.next, one.last = next, r.Clone()
		return true
	}
	l.recent[key] = &line{timer: time.AfterFunc(every, func() { l.over(key) })}
	return false
}

// over is the end of a line's second.
func (l *lines) over(key string) {
	l.mu.Lock()
	one := l.recent[key]
	if one == nil {
		l.mu.Unlock()
		return
	}
	if one.held == 0 {
		delete(l.recent, key)
		l.mu.Unlock()
		return
	}
	next, r := one.take()
	one.timer.Reset(every)
	l.writing++
	l.mu.Unlock()
	_ = next.Handle(context.Background(), r) // as slog.Logger does: nobody is there to tell
	l.mu.Lock()
	l.writing--
	l.mu.Unlock()
	l.written.Broadcast()
}

// take is the line that stands for those that were held.
func (one *line) take() (slog.Handler, slog.Record) {
	r := one.last
	if one.held > 1 {
		r.AddAttrs(slog.Int("repeated", one.held))
	}
	next := one.next
	one.held, one.next, one.last = 0, nil, slog.Record{}
	return next, r
}

// flush writes what is held back, and waits for what timers are writing.
func (l *lines) flush() {
	l.mu.Lock()
	var held []func()
	for key, one := range l.recent {
		one.timer.Stop()
		delete(l.recent, key)
		if one.held > 0 {
			next, r := one.take()
			held = append(held, func() { _ = next.Handle(context.Background(), r) })
		}
	}
	for l.writing > 0 {
		l.written.Wait()
	}
	l.mu.Unlock()
	for _, write := range held {
		write()
	}
}
