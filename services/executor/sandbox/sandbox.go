// Package sandbox is the interface to the place where a workspace runs: operations on files, and commands.
//
// Package local implements it for this host; remote providers implement the same interface. All of them pass the
// conformance suite, package sandboxtest. A command is identified by its call id. It is not a child of the daemon, and
// runs on when the daemon dies:
//
//	Start ──▶ running ──exit, timeout, Kill──▶ finished ──Forget──▶ gone
//	             ▲ Attach (after the daemon was restarted)
//
// Invariants:
//   - Start of an id that was started before attaches to that command and does not run it again.
//   - When a command is finished no process of it is left, or its Exit says that this is not confirmed.
//   - Output and exit status stay until Forget.
package sandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Typed failures of the verbs. Their reasons travel to the model and to clients.
var (
	ErrNotFound    = errs.New(errs.NotFound, "NOT_FOUND", "no such file or directory")
	ErrNotDir      = errs.New(errs.FailedPrecondition, "NOT_DIR", "not a directory")
	ErrIsDir       = errs.New(errs.FailedPrecondition, "IS_DIR", "is a directory")
	ErrExists      = errs.New(errs.AlreadyExists, "EXISTS", "already exists")
	ErrNotEmpty    = errs.New(errs.FailedPrecondition, "NOT_EMPTY", "directory is not empty")
	ErrPermission  = errs.New(errs.PermissionDenied, "PERMISSION", "permission denied")
	ErrNoSpace     = errs.New(errs.ResourceExhausted, "NO_SPACE", "no space left on device")
	ErrTooLarge    = errs.New(errs.ResourceExhausted, "TOO_LARGE", "too large")
	ErrIO          = errs.New(errs.FailedPrecondition, "IO", "the system could not read or write it")
	ErrInvalidArg  = errs.New(errs.InvalidArgument, "INVALID_ARG", "invalid argument")
	ErrGone        = errs.New(errs.Unavailable, "SANDBOX_GONE", "the sandbox is gone")
	ErrUnavailable = errs.New(errs.Unavailable, "UNAVAILABLE", "the sandbox is unavailable")
	ErrTimeout     = errs.New(errs.DeadlineExceeded, "TIMEOUT", "timed out")
	ErrCancelled   = errs.New(errs.Canceled, "CANCELLED", "cancelled")
	// ErrUnknownExec answers Attach and Forget for an id that this sandbox does not know.
	ErrUnknownExec = errs.New(errs.NotFound, "UNKNOWN_EXEC", "no such command")
	// ErrInterrupted answers Attach for a command that was started and whose end nobody saw: its outcome is unknown.
	ErrInterrupted = errs.New(errs.Aborted, "INTERRUPTED", "the command was interrupted, its outcome is unknown")
)

// FromContext is why ctx is over, as a verb tells it: ErrTimeout or ErrCancelled, and nil while it is not.
func FromContext(ctx context.Context) error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return ErrTimeout
	}
	return ErrCancelled
}

// Info describes a path. The last link of a path is not followed.
type Info struct {
	Size       int64
	Mode       fs.FileMode
	ModTime    time.Time
	IsFile     bool
	IsDir      bool
	IsSymlink  bool
	LinkTarget string
}

// Sandbox is the verbs. Paths are the sandbox's own; relative ones resolve against Root. All methods may be called
// concurrently, end when ctx ends, and return the typed errors above.
type Sandbox interface {
	// Root is the absolute working directory; it exists.
	Root() string
	// Home is the absolute home directory of the user that commands run as.
	Home() string
	// Open reads a file as a stream. ErrIsDir for a directory.
	Open(ctx context.Context, path string) (io.ReadSeekCloser, Info, error)
	// Create begins a replacement of a file's content; missing parents are made. Nothing changes until Commit. Mode,
	// owner and hard links of a file that is there stay. ErrIsDir for a path that ends with a slash, whatever is there.
	Create(ctx context.Context, path string) (FileWriter, error)
	// Stat does not follow the last link; ErrNotFound when nothing is there.
	Stat(ctx context.Context, path string) (Info, error)
	// Locate is the one name of the place that a path leads to, through links and `..`, whether anything is there or
	// not. Two paths to one place have one name.
	Locate(ctx context.Context, path string) (string, error)
	// ReadDir returns the names in a directory, sorted, dotfiles included.
	ReadDir(ctx context.Context, path string) ([]string, error)
	// Exists never fails for a path that is not there, nor below a file.
	Exists(ctx context.Context, path string) (bool, error)
	// MakeDir makes a directory; recursive makes parents and tolerates an existing one.
	MakeDir(ctx context.Context, path string, recursive bool) error
	// Pack reads a directory as a tar archive of what is in it, made as it is read. Links are in it as links, and none
	// is followed; what is neither a file, a directory nor a link is left out. It fails in the middle when something
	// cannot be read.
	Pack(ctx context.Context, path string) (io.ReadCloser, error)
	// Unpack puts what is in a tar archive into a directory, which is made if it is missing. An entry replaces the file
	// or link of its name, never a directory. Nothing is written through a link in the directory, nor outside of it.
	// ErrInvalidArg for an entry that would need that, for a link that leads out, and for what is neither a file, a
	// directory nor a link. Entries before one that fails stay. What it has unpacked is durable when it returns nil.
	Unpack(ctx context.Context, path string, archive io.Reader) error
	// Remove deletes; recursive takes directories with their content, force tolerates a missing path.
	Remove(ctx context.Context, path string, recursive, force bool) error

	// Start runs a command under id (unique, [A-Za-z0-9_-]{1,64}) and returns once it runs. A failure to start (missing
	// cwd, no shell) is returned here, and then nothing ran.
	Start(ctx context.Context, id string, cmd Command) (Exec, error)
	// Attach finds a command again: running, finished, ErrInterrupted or ErrUnknownExec.
	Attach(ctx context.Context, id string) (Exec, error)
	// Forget drops output and status of a finished command. Unknown ids are fine.
	Forget(ctx context.Context, id string) error
}

// FileWriter is one file being written. Exactly one of Commit and Abort ends it; Abort after Commit does nothing.
type FileWriter interface {
	io.Writer
	// Chmod says which permission bits the file has with its new content, before Commit. Without it one that is there
	// keeps its mode.
	Chmod(mode fs.FileMode)
	// Commit makes the content visible, durably. It does so at once unless the file would lose something by that: a
	// file with several hard links, or with an owner or attributes that a new file cannot get, is written in place. If
	// the sandbox dies while it does that, the file is partly old and partly new.
	Commit() error
	Abort()
}

// MaxInput bounds Command.Input.
const MaxInput = 1 << 20

// Command is what Start runs: a shell command line.
type Command struct {
	Line    string             // given to `bash -c`, or `sh -c` where there is no bash; at least 1 MiB is possible
	Cwd     string             // "" is Root; relative resolves against Root; must exist
	Env     map[string]*string // over the sandbox's environment; nil removes a name
	Timeout time.Duration      // 0 is none; enforced by the owner of the command even when no daemon is there
	Keep    bool               // keep background children that outlive a normal exit
	// Stdin is the command's input; nil is /dev/null. It is read beyond Start, until it ends or fails. What the command
	// does not want is read and dropped.
	Stdin io.Reader
	// Input is the whole of the command's input, of at most MaxInput bytes, in place of Stdin. The command has it even
	// when this process is gone.
	Input []byte
	// Tied ends the command when nobody follows it any more, because this process has died for instance.
	Tied bool
}

// Stream names one of a command's outputs.
type Stream uint8

// The two outputs.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Exec is a command that was started. Its methods may be called concurrently.
type Exec interface {
	// ReadOutput copies captured bytes of a stream from offset off on, as written by the command so far: n may be 0
	// while it runs. io.EOF once the command is finished and off is at the end. Past the cap the middle is cut: Cut
	// tells which bytes.
	ReadOutput(s Stream, p []byte, off int64) (n int, err error)
	// Size is how long a stream is as far as is known here without asking: while the command runs ReadOutput may give
	// more.
	Size(s Stream) int64
	// Changed returns a channel that is closed when output, and with it its Size, grows or the command finishes after
	// this call.
	Changed() <-chan struct{}
	// Done is closed when the command is finished.
	Done() <-chan struct{}
	// Exit is the end of the command; only after Done.
	Exit() Exit
	// Preserve keeps the files of a finished command beyond Forget, for a person to look at, because its output could
	// not be read. It tells where they will be. What was preserved goes after a week, or sooner when much more of it
	// comes.
	Preserve() (where string, err error)
	// Kill ends the command and every descendant: TERM, grace, KILL. It returns when the command is finished or ctx
	// ends.
	Kill(ctx context.Context, grace time.Duration) error
}

// Exit tells how a command ended.
type Exit struct {
	Code        int  // as a shell gives it: 128+n after signal n, 124 after Timeout
	Signal      int  // 0 unless a signal ended it
	TimedOut    bool // Timeout ended it; stderr then ends with a line that says so
	Killed      bool // Kill ended it
	Interrupted bool // nobody saw its end: Code is -1 and its outcome is unknown; Attach answers ErrInterrupted
	Confirmed   bool // no process of it is left
	// Leftovers is how many processes it had left in the background when it ended by itself, and were ended then.
	Leftovers int
	// StdoutBytes and StderrBytes are the lengths of the captured streams, as ReadOutput gives them.
	StdoutBytes int64
	StderrBytes int64
	// StdoutCut and StderrCut count bytes that the cap removed between head and tail. The captured stream holds a
	// marker there.
	StdoutCut int64
	StderrCut int64
	// StdoutError and StderrError say why a stream was not captured as it should be; "" is a stream that was.
	StdoutError string
	StderrError string
	Started     time.Time
	Ended       time.Time
}
