// Package worktest has a sandbox in memory, for tests of what uses a sandbox. It uses no process, file or socket, and
// it waits only with package time: inside testing/synctest its time is fake.
//
// A Box outlives the daemons that use it, as a keeper does: commands run on when a daemon is restarted. Crash is the
// death of the keeper.
package worktest

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Box is the sandbox. Close ends its commands.
type Box struct {
	// OnStart is called for each command before it runs; an error is a failure to start.
	OnStart func(id string) error
	// Serve is what a command does that begins with exec: it reads and writes until the command, and with it in, ends.
	Serve func(in io.ReadCloser, out io.Writer)
	// Gate, when set, holds file verbs up until it is closed or their context ends.
	Gate chan struct{}
	// Hang, when set, does so whatever their context says, HangReads to reads of open files: a file system that does
	// not answer.
	Hang, HangReads chan struct{}

	mu      sync.Mutex
	wg      sync.WaitGroup
	files   map[string][]byte
	cmds    map[string]*Cmd
	runs    map[string]int
	writing int
	reading int
	down    error
}

var _ sandbox.Sandbox = (*Box)(nil)

// New makes an empty box.
func New() *Box {
	return &Box{files: map[string][]byte{}, cmds: map[string]*Cmd{}, runs: map[string]int{}}
}

// Close ends all commands and waits for them.
func (b *Box) Close() {
	b.Crash()
	b.wg.Wait()
}

// Crash is the death of whoever runs the commands: running ones are interrupted.
func (b *Box) Crash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.cmds {
		c.finish(sandbox.Exit{Code: -1, Interrupted: true})
	}
}

// Runs is how often a command was started under an id.
func (b *Box) Runs(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.runs[id]
}

// Command is the command that was started under an id, nil for none.
func (b *Box) Command(id string) *Cmd {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cmds[id]
}

// Held is the ids of the commands that were not forgotten.
func (b *Box) Held() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.cmds))
}

// Down makes Start, Attach and Forget fail with err, until it is nil.
func (b *Box) Down(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = err
}

// Put makes a file.
func (b *Box) Put(name, content string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files[abs(name)] = []byte(content)
}

// Get reads a file.
func (b *Box) Get(name string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.files[abs(name)]
	return string(c), ok
}

// Root implements sandbox.Sandbox.
func (b *Box) Root() string { return "/box" }

// Home implements sandbox.Sandbox.
func (b *Box) Home() string { return "/home/box" }

// Locate implements sandbox.Sandbox.
func (b *Box) Locate(ctx context.Context, name string) (string, error) {
	return abs(name), ctx.Err()
}

func abs(name string) string {
	if !strings.HasPrefix(name, "/") {
		name = "/box/" + name
	}
	return path.Clean(name)
}

// enter is what every file verb does first.
func (b *Box) enter(ctx context.Context) error {
	if b.Hang != nil {
		<-b.Hang
	}
	if b.Gate != nil {
		select {
		case <-b.Gate:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == context.DeadlineExceeded {
		return sandbox.ErrTimeout
	}
	if ctx.Err() != nil {
		return sandbox.ErrCancelled
	}
	return nil
}

func (b *Box) dir(name string) bool {
	for f := range b.files {
		if strings.HasPrefix(f, strings.TrimSuffix(name, "/")+"/") {
			return true
		}
	}
	return name == "/box" || name == "/"
}

type reader struct {
	*bytes.Reader
	b *Box
}

func (r reader) Read(p []byte) (int, error) {
	if r.b.HangReads != nil {
		<-r.b.HangReads
	}
	return r.Reader.Read(p)
}

func (r reader) Close() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.reading--
	return nil
}

// Reading is how many files are open for reading.
func (b *Box) Reading() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reading
}

// Open implements sandbox.Sandbox.
func (b *Box) Open(ctx context.Context, name string) (io.ReadSeekCloser, sandbox.Info, error) {
	if err := b.enter(ctx); err != nil {
		return nil, sandbox.Info{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	name = abs(name)
	c, ok := b.files[name]
	switch {
	case ok:
		b.reading++
		return reader{bytes.NewReader(c), b}, sandbox.Info{Size: int64(len(c)), IsFile: true, Mode: 0o644}, nil
	case b.dir(name):
		return nil, sandbox.Info{}, sandbox.ErrIsDir.With("%s: is a directory", name)
	}
	return nil, sandbox.Info{}, sandbox.ErrNotFound.With("%s: no such file or directory", name)
}

type writer struct {
	bytes.Buffer
	b     *Box
	ctx   context.Context
	name  string
	ended bool
}

// Create implements sandbox.Sandbox.
func (b *Box) Create(ctx context.Context, name string) (sandbox.FileWriter, error) {
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	name = abs(name)
	if b.dir(name) {
		return nil, sandbox.ErrIsDir.With("%s: is a directory", name)
	}
	b.writing++
	return &writer{b: b, ctx: ctx, name: name}, nil
}

// Chmod implements sandbox.FileWriter. Files of the box have no mode.
func (w *writer) Chmod(fs.FileMode) {}

// Commit implements sandbox.FileWriter.
func (w *writer) Commit() error {
	if w.ctx.Err() != nil {
		return sandbox.ErrCancelled
	}
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if !w.ended {
		w.ended = true
		w.b.writing--
		w.b.files[w.name] = w.Bytes()
		w.b.runs[w.name]++
	}
	return nil
}

// Abort implements sandbox.FileWriter.
func (w *writer) Abort() {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if !w.ended {
		w.ended = true
		w.b.writing--
	}
}

// Writing is how many files are being written: neither committed nor aborted.
func (b *Box) Writing() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writing
}

// Stat implements sandbox.Sandbox.
func (b *Box) Stat(ctx context.Context, name string) (sandbox.Info, error) {
	if err := b.enter(ctx); err != nil {
		return sandbox.Info{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.files[abs(name)]
	switch {
	case ok:
		return sandbox.Info{Size: int64(len(c)), IsFile: true, Mode: 0o644}, nil
	case b.dir(abs(name)):
		return sandbox.Info{IsDir: true, Mode: 0o755}, nil
	}
	return sandbox.Info{}, sandbox.ErrNotFound.With("%s: no such file or directory", name)
}

// ReadDir implements sandbox.Sandbox.
func (b *Box) ReadDir(ctx context.Context, name string) ([]string, error) {
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.dir(abs(name)) {
		return nil, sandbox.ErrNotFound.With("%s: no such file or directory", name)
	}
	names := map[string]bool{}
	for f := range b.files {
		if rest, ok := strings.CutPrefix(f, strings.TrimSuffix(abs(name), "/")+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			names[first] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// Exists implements sandbox.Sandbox.
func (b *Box) Exists(ctx context.Context, name string) (bool, error) {
	_, err := b.Stat(ctx, name)
	return err == nil, nil
}

// MakeDir implements sandbox.Sandbox. Directories are there as soon as something is in them.
func (b *Box) MakeDir(ctx context.Context, _ string, _ bool) error { return b.enter(ctx) }

// Remove implements sandbox.Sandbox.
func (b *Box) Remove(ctx context.Context, name string, _, force bool) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.files[abs(name)]; !ok && !force {
		return sandbox.ErrNotFound.With("%s: no such file or directory", name)
	}
	delete(b.files, abs(name))
	return nil
}

// Start implements sandbox.Sandbox. See Cmd for what a command line can say.
func (b *Box) Start(_ context.Context, id string, cmd sandbox.Command) (sandbox.Exec, error) {
	if b.OnStart != nil {
		if err := b.OnStart(id); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return nil, b.down
	}
	if c := b.cmds[id]; c != nil {
		return c.found()
	}
	c := &Cmd{
		b: b, changed: make(chan struct{}), done: make(chan struct{}), kill: make(chan struct{}, 1),
		started: time.Now(),
	}
	b.cmds[id] = c
	b.runs[id]++
	b.wg.Go(func() { c.run(cmd) })
	return c, nil
}

// Attach implements sandbox.Sandbox.
func (b *Box) Attach(_ context.Context, id string) (sandbox.Exec, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return nil, b.down
	}
	c := b.cmds[id]
	if c == nil {
		return nil, sandbox.ErrUnknownExec
	}
	return c.found()
}

// Forget implements sandbox.Sandbox.
func (b *Box) Forget(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return b.down
	}
	if c := b.cmds[id]; c != nil && !c.over() {
		return sandbox.ErrInvalidArg.With("command %s is still running", id)
	}
	delete(b.cmds, id)
	return nil
}
