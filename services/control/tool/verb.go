package tool

// Text is bytes that a call's arguments give as text.
type Text []byte

// MarshalText implements encoding.TextMarshaler.
func (t Text) MarshalText() ([]byte, error) { return t, nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Text) UnmarshalText(b []byte) error {
	*t = append(Text{}, b...)
	return nil
}

// ReadText reads a window of whole lines of a text file, an image, or the names in a directory.
type ReadText struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"` // first line, from 1; 0 is 1; a negative one counts from the end
	Limit  int64  `json:"limit"`  // lines at most; 0 is the tool's own limit
}

// WriteFile replaces a file atomically; missing parents are made.
type WriteFile struct {
	Path    string `json:"path"`
	Content Text   `json:"content"`
}

// EditFile replaces literal text in a file. Old is never empty and must occur once unless ReplaceAll.
type EditFile struct {
	Path       string `json:"path"`
	Old        string `json:"oldText"`
	New        string `json:"newText"`
	ReplaceAll bool   `json:"replaceAll"`
}

// MaxCommand bounds the bytes of a command line.
const MaxCommand = 1 << 20

// Exec runs a shell command line.
type Exec struct {
	Command        string  `json:"command"` // at most MaxCommand bytes
	Cwd            string  `json:"cwd"`     // where it runs; "" is the working directory
	TimeoutSeconds float64 `json:"timeout"` // 0 is none
}

// Grep searches the contents of files.
type Grep struct {
	Pattern    string `json:"pattern"`
	Path       string `json:"path"`    // "" is the working directory
	Include    string `json:"include"` // glob that file names must match
	Literal    bool   `json:"literal"`
	IgnoreCase bool   `json:"ignoreCase"`
}

// Glob lists paths that match a pattern.
type Glob struct {
	Pattern string `json:"pattern"`
	Path    string `json:"path"` // "" is the working directory
}

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
