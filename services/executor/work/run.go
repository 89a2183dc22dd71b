package work

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// run takes a call from its start to its end. again says that the sandbox may hold an earlier, interrupted run of it.
func (s *Service) run(c *call, again bool) {
	defer c.stop()
	if c.verb == verbExec {
		s.runExec(c, again)
		return
	}
	if c.verb != verbReadFile {
		s.accept(c) // ReadFile accepts when the file is open: output must not come first
	}
	r, err := s.perform(c)
	if s.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, sandbox.ErrCancelled) ||
		errors.Is(err, errHangs)) {
		close(c.ended)
		return // cut short by Close: what became of it is for Recover to say
	}
	state := journal.Finished
	if errors.Is(err, errHangs) {
		if err = c.ctx.Err(); c.changes() {
			state, err = journal.Interrupted, sandbox.ErrInterrupted // it may still happen
		}
	}
	if contain.Is(err) {
		s.log.Error("a panic in a call was contained", "call_id", c.id(), "err", err)
		if err = errPanic; c.changes() && c.begin.Safety == journal.AtMostOnce {
			state, err = journal.Interrupted, sandbox.ErrInterrupted // it may have happened
		}
	}
	if err != nil {
		if errors.Is(err, sandbox.ErrInterrupted) {
			state = journal.Interrupted
		}
		r = s.failed(c, err)
	}
	s.finish(c, state, r)
}

// errPanic is what a call comes to that panicked and may be repeated.
var errPanic = errs.New(errs.Internal, "INTERNAL", "the executor failed; its log tells why")

// contained keeps a panic from ending more than the call.
func (s *Service) contained(c *call, f func()) {
	err := contain.Do(func() error { f(); return nil })
	if err == nil {
		return
	}
	s.log.Error("a panic in a call was contained", "call_id", c.id(), "err", err)
	s.mu.Lock()
	running := c.running()
	s.mu.Unlock()
	if running {
		s.finish(c, journal.Interrupted, failure(c, sandbox.ErrInterrupted))
	}
}

const (
	// hangGrace is how long a verb may take to see the end of its context. One that hangs in a file system does not see
	// it.
	hangGrace = time.Second
	// maxHanging is how many of those may be left behind, each with a thread of this process.
	maxHanging = 256
)

var errHangs = errors.New("the verb does not see that its time is over")

// perform runs a verb. It returns soon after the end of the call's context, whatever a file system does.
func (s *Service) perform(c *call) (*pawlv1.Result, error) {
	s.mu.Lock()
	n := len(s.hanging)
	s.mu.Unlock()
	if n >= maxHanging {
		return nil, sandbox.ErrUnavailable.With("%d earlier calls hang in file systems that do not answer", n)
	}
	type answer struct {
		r   *pawlv1.Result
		err error
	}
	answered := make(chan answer, 1)
	s.wg.Go(func() {
		var a answer
		a.err = contain.Do(func() (err error) { a.r, err = s.do(c); return err })
		answered <- a
	})
	select {
	case a := <-answered:
		return a.r, a.err
	case <-c.ctx.Done():
	}
	late := time.NewTimer(hangGrace)
	defer late.Stop()
	select {
	case a := <-answered:
		return a.r, a.err
	case <-late.C:
	}
	s.log.Warn("a call hangs in a file system, it is left behind", "call_id", c.id())
	s.mu.Lock()
	s.hanging[c] = true
	s.mu.Unlock()
	s.wg.Go(func() {
		<-answered
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hanging, c)
	})
	return nil, errHangs
}

// hangs reports whether a verb was left behind.
func (s *Service) hangs(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hanging[c]
}

// changes reports whether the call may change something.
func (c *call) changes() bool {
	switch c.exec.GetVerb().(type) {
	case *pawlv1.Execute_WriteFile, *pawlv1.Execute_EditFile, *pawlv1.Execute_MakeDir, *pawlv1.Execute_Remove,
		*pawlv1.Execute_Mcp:
		return true
	}
	return false
}

// do runs a verb that is not a command.
func (s *Service) do(c *call) (*pawlv1.Result, error) {
	ctx, r, e, sb := c.ctx, c.head(), c.exec, s.cfg.Sandbox
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var err error
	switch v := e.GetVerb().(type) {
	case *pawlv1.Execute_ReadFile:
		r.Outcome, err = s.readFile(c, v.ReadFile)
	case *pawlv1.Execute_ReadWhole:
		r.Outcome, err = s.readContent(c, v.ReadWhole)
	case *pawlv1.Execute_WriteFile:
		r.Outcome, err = s.writeFile(c, v.WriteFile)
	case *pawlv1.Execute_Stat:
		r.Outcome, err = stat(ctx, sb, s.path(c, v.Stat.GetPath()))
	case *pawlv1.Execute_ReadDir:
		r.Outcome, err = readDir(ctx, sb, s.path(c, v.ReadDir.GetPath()))
	case *pawlv1.Execute_Exists:
		var there bool
		there, err = sb.Exists(ctx, s.path(c, v.Exists.GetPath()))
		r.Outcome = &pawlv1.Result_Exists{Exists: &pawlv1.ExistsResult{Exists: there}}
	case *pawlv1.Execute_MakeDir:
		err = sb.MakeDir(ctx, s.path(c, v.MakeDir.GetPath()), v.MakeDir.GetRecursive())
		r.Outcome = &pawlv1.Result_Done{Done: &pawlv1.DoneResult{}}
	case *pawlv1.Execute_Remove:
		err = s.remove(c, v.Remove)
		r.Outcome = &pawlv1.Result_Done{Done: &pawlv1.DoneResult{}}
	case *pawlv1.Execute_ReadText:
		r.Outcome, err = readText(ctx, sb, s.path(c, v.ReadText.GetPath()), v.ReadText)
	case *pawlv1.Execute_EditFile:
		r.Outcome, err = s.editFile(c, v.EditFile)
	case *pawlv1.Execute_Grep:
		r.Outcome, err = s.grep(ctx, c, v.Grep)
	case *pawlv1.Execute_Glob:
		r.Outcome, err = s.glob(ctx, c, v.Glob)
	case *pawlv1.Execute_Mcp:
		r.Outcome, err = s.askServer(ctx, c, v.Mcp)
	default:
		err = sandbox.ErrInvalidArg.With("this executor does not know the verb of the call")
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// maxResult bounds a result, far below what a message and a record of the journal may hold: one that cannot be sent
// would end every connection anew.
const maxResult = 16 << 20

// finish records the end of a call and lets its result go.
func (s *Service) finish(c *call, state journal.State, r *pawlv1.Result) {
	if n := proto.Size(r); n > maxResult {
		r = failure(c, sandbox.ErrTooLarge.With("the result has %d bytes, %d are the most that can be sent; ask for "+
			"less at once", n, maxResult))
	}
	var outcome []byte
	if !c.loose() {
		outcome = encode(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if outcome != nil {
		if _, err := s.j.End(c.begin, state, outcome); err != nil {
			s.log.Error("an end could not be recorded, it is tried again", "call_id", c.id(), "err", err)
		} else {
			c.kept = true
		}
	}
	c.state, c.result, c.in = state, r, nil
	if !s.hanging[c] { // it may look again
		c.exec = nil
	}
	c.sized(r)
	s.running--
	if c.loose() {
		s.loose--
	}
	close(c.ended)
	if c.orphan {
		s.drop(c)
		return
	}
	s.push(c)
}

// recordEnds records the ends that could not be recorded when they came: a disk was full, say.
func (s *Service) recordEnds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.live {
		if c.running() || c.kept || c.loose() || c.result == nil {
			continue
		}
		if _, err := s.j.End(c.begin, c.state, encode(c.result)); err != nil {
			s.log.Warn("an end could not be recorded", "call_id", id, "err", err)
			return // the next one fares no better
		}
		c.kept = true
	}
}

// sized takes over how much output there is in all.
func (c *call) sized(r *pawlv1.Result) {
	f := &c.feed
	f.touch()
	switch o := r.GetOutcome().(type) {
	case *pawlv1.Result_Exec:
		f.size[pawlv1.Stream_STREAM_STDOUT] = o.Exec.GetStdout().GetSize()
		f.size[pawlv1.Stream_STREAM_STDERR] = o.Exec.GetStderr().GetSize()
	case *pawlv1.Result_Failure:
		if c.verb != verbReadFile {
			return // what was captured of an interrupted command is read until it ends
		}
		f.size[pawlv1.Stream_STREAM_FILE] = f.sent[pawlv1.Stream_STREAM_FILE]
	case *pawlv1.Result_File:
		f.size[pawlv1.Stream_STREAM_FILE] = o.File.GetSize()
	}
	for _, s := range c.streams() {
		f.ended[s] = true
	}
}

// failed is the result of a verb that failed.
func (s *Service) failed(c *call, err error) *pawlv1.Result {
	s.mu.Lock()
	cancelled := c.cancelled
	s.mu.Unlock()
	switch {
	case cancelled && (errors.Is(err, context.Canceled) || errors.Is(err, sandbox.ErrCancelled)):
		err = sandbox.ErrCancelled
	case errors.Is(err, context.DeadlineExceeded):
		err = sandbox.ErrTimeout
	case errors.Is(err, context.Canceled):
		err = sandbox.ErrCancelled
	}
	if _, ok := errs.Public(err); !ok {
		s.log.Error("a verb failed", "call_id", c.id(), "err", err)
	}
	return failure(c, err)
}

// failure is a result that tells an error; what carries no reason stays in the log.
func failure(c *call, err error) *pawlv1.Result {
	f := &pawlv1.Failure{Reason: "INTERNAL", Message: "the executor failed; its log tells why"}
	if e, ok := errs.Public(err); ok {
		f.Reason, f.Message = e.Reason(), valid(err.Error())
	}
	r := c.head()
	r.Outcome = &pawlv1.Result_Failure{Failure: f}
	return r
}

// valid makes text fit for a protocol string.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// path is a path of the call as the sandbox takes it: relative ones are below the call's working directory.
func (s *Service) path(c *call, p string) string {
	return under(s.fromHome(c, c.exec.GetCwd()), s.fromHome(c, p))
}

// fromHome puts the home directory in the place of a leading ~, as a shell does.
func (s *Service) fromHome(c *call, p string) string {
	if p != "~" && !strings.HasPrefix(p, "~/") {
		return p
	}
	home := s.cfg.Sandbox.Home()
	if h := c.exec.GetEnv()["HOME"]; strings.HasPrefix(h, "/") {
		home = h
	}
	return home + p[1:]
}

// under does not clean: `a/../b` is for the sandbox to resolve, which knows links.
func under(dir, p string) string {
	switch {
	case strings.HasPrefix(p, "/") || dir == "":
		return p
	case p == "":
		return dir
	}
	return strings.TrimSuffix(dir, "/") + "/" + p
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
