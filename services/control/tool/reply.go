package tool

// Reply is what an executor answers, by value: TextReply, WriteReply, EditReply, ExecReply, GrepReply, GlobReply or
// Failure.
type Reply interface{ reply() }

// TextReply answers ReadText. One of Content, Binary, Image and IsDir describes the path.
type TextReply struct {
	Content    []byte // whole lines as they are in the file; no lines at all when the offset is beyond the end
	FirstLine  int64  // number of the first line of Content, from 1
	TotalLines int64  // lines of the file; a final newline does not begin another line
	LineCut    bool   // the first line alone is longer than the limit: Content is its beginning
	Binary     bool
	MediaType  string // of Image
	Image      []byte // of any of the types that models see
	IsDir      bool
	Entries    []string // names in the directory
	Size       int64    // bytes of the file
}

// WriteReply answers WriteFile.
type WriteReply struct {
	Size int64
}

// EditReply answers EditFile.
type EditReply struct {
	Replacements int
	Diff         string // unified
	Note         string // in which way the old text was found, if not literally
}

// Captured is the beginning and the end of a stream; Cut counts the bytes between them that are not here.
type Captured struct {
	Head  []byte
	Tail  []byte
	Cut   int64
	Size  int64  // of the stream as it can be read at the executor, 0 when that is not known
	Error string // why the executor could not capture or read all of it; "" when it could
}

// ExecReply answers Exec.
type ExecReply struct {
	ExitCode  int // as a shell gives it: 128+n after signal n, 124 after the timeout
	Stdout    Captured
	Stderr    Captured
	TimedOut  bool
	Cancelled bool
	Confirmed bool // no process of the command is left
}

// GrepReply answers Grep.
type GrepReply struct {
	Matches []Match
	Total   int64  // matches found, at least len(Matches)
	Note    string // in which other way the pattern was taken than it was written
}

// Match is one matching line.
type Match struct {
	Path string
	Line int64
	Text string
}

// GlobReply answers Glob.
type GlobReply struct {
	Paths     []string
	Truncated bool // there are more than Paths
}

// Failure answers any request that could not be done.
type Failure struct {
	Reason  string
	Message string
}

// Reasons of a Failure that Render treats apart. All others are told as they are.
const (
	// ReasonInterrupted: the call was begun and nobody saw its end. Its outcome is unknown.
	ReasonInterrupted = "INTERRUPTED"
	// ReasonCancelled: the call was cancelled before it had an outcome.
	ReasonCancelled = "CANCELLED"
)

func (TextReply) reply()  {}
func (WriteReply) reply() {}
func (EditReply) reply()  {}
func (ExecReply) reply()  {}
func (GrepReply) reply()  {}
func (GlobReply) reply()  {}
func (Failure) reply()    {}
