package tool

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

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

// MaxWhole bounds the bytes of a file that is read or written whole, and of both streams of a command whose reply is to
// have them whole.
const MaxWhole = 12 << 20

// ReadFile reads a whole file of at most MaxWhole bytes, as it is.
type ReadFile struct {
	Path string `json:"path"`
}

// WriteFile replaces a file atomically; missing parents are made.
type WriteFile struct {
	Path    string `json:"path"`
	Content Text   `json:"content"` // at most MaxWhole bytes
	// Mode is the permission bits that the file gets; nil leaves those of a file that is there.
	Mode *uint32 `json:"mode,omitempty"`
}

// EditFile replaces literal text in a file. Old is never empty and must occur once unless ReplaceAll.
type EditFile struct {
	Path       string `json:"path"`
	Old        string `json:"oldText"`
	New        string `json:"newText"`
	ReplaceAll bool   `json:"replaceAll"`
}

// Preview is what the edit is to change, for people who decide about it: the lines that go and those that come.
func (e EditFile) Preview() string {
	before, after := strings.Split(e.Old, "\n"), strings.Split(e.New, "\n")
	same := 0
	for same < len(before)-1 && same < len(after)-1 && before[same] == after[same] {
		same++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %[1]s\n+++ %[1]s\n", e.Path)
	for _, line := range before[:same] {
		fmt.Fprintf(&b, " %s\n", line)
	}
	for _, line := range before[same:] {
		fmt.Fprintf(&b, "-%s\n", line)
	}
	for _, line := range after[same:] {
		fmt.Fprintf(&b, "+%s\n", line)
	}
	return b.String()
}

// MaxCommand bounds the bytes of a command line.
const MaxCommand = 1 << 20

// Exec runs a shell command line.
type Exec struct {
	Command        string  `json:"command"` // at most MaxCommand bytes
	Cwd            string  `json:"cwd"`     // where it runs; "" is the working directory
	TimeoutSeconds float64 `json:"timeout"` // 0 is none
	// Input is the whole of its input, at most MaxInput bytes; nil is none.
	Input []byte `json:"input,omitempty"`
	// Env are variables over those that every command of the agent has.
	Env map[string]string `json:"env,omitempty"`
	// Image says that its standard output is an image, which the reply is to have.
	Image bool `json:"image,omitempty"`
	// Whole says that the reply is to have all of the output.
	Whole bool `json:"whole,omitempty"`
}

// MaxInput bounds the bytes of a command's input.
const MaxInput = 1 << 20

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

// FileReply answers ReadFile.
type FileReply struct {
	Content []byte
	SHA256  []byte // of the content as it is in the file
}

// WriteReply answers WriteFile.
type WriteReply struct {
	Size   int64
	SHA256 []byte `json:",omitempty"` // of what was written
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
	// Leftovers is how many processes the command had left in the background when it ended by itself, and were ended
	// with it.
	Leftovers int `json:",omitempty"`
	// Image is all of the standard output of a command that was asked for an image; Stdout has its size alone then.
	Image []byte `json:",omitempty"`
	// Whole says that the heads of Stdout and Stderr are all that the command has written. It is kept as it is, but for
	// secrets. A command that was asked for it and has written more than MaxWhole has a reply without.
	Whole bool `json:",omitempty"`
}

// GrepReply answers Grep.
type GrepReply struct {
	Matches []Match
	Total   int64  // matches found, at least len(Matches)
	Note    string // in which other way the pattern was taken than it was written, and which paths could not be read
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
	Truncated bool   // there are more than Paths
	Note      string // which paths could not be read
}

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
func (r FileReply) Clean(c Cleaner) Reply {
	r.Content = []byte(c.Text(string(r.Content)))
	return r
}

// Clean implements Reply.
func (r WriteReply) Clean(Cleaner) Reply { return r }

// Clean implements Reply.
func (r EditReply) Clean(c Cleaner) Reply {
	r.Diff, r.Note = c.Text(r.Diff), c.Text(r.Note)
	return r
}

// Clean implements Reply. Output that is not Whole becomes what a terminal would show of it in the end, see plain.
func (r ExecReply) Clean(c Cleaner) Reply {
	if r.Whole {
		r.Stdout, r.Stderr = redactCaptured(r.Stdout, c.needles), redactCaptured(r.Stderr, c.needles)
		return r
	}
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
	r.Paths, r.Note = mapped(r.Paths, c.Text), c.Text(r.Note)
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
