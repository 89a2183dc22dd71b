package tool

// Request is what a call asks of an executor, by value: ReadText, WriteFile, EditFile, Exec, Grep or Glob.
type Request interface {
	// Tool is the name of the tool that asks for this.
	Tool() string
}

// ReadText reads a window of whole lines of a text file, an image, or the names in a directory.
type ReadText struct {
	Path   string
	Offset int64 // first line, from 1; 0 is 1; a negative one counts from the end
	Limit  int64 // lines at most; 0 is the tool's own limit
}

// WriteFile replaces a file atomically; missing parents are made.
type WriteFile struct {
	Path    string
	Content []byte
}

// EditFile replaces literal text in a file. Old is never empty and must occur once unless ReplaceAll.
type EditFile struct {
	Path       string
	Old        string
	New        string
	ReplaceAll bool
}

// MaxCommand bounds the bytes of a command line.
const MaxCommand = 1 << 20

// Exec runs a shell command line.
type Exec struct {
	Command        string  // at most MaxCommand bytes
	Cwd            string  // where it runs; "" is the working directory
	TimeoutSeconds float64 // 0 is none
}

// Grep searches the contents of files.
type Grep struct {
	Pattern    string
	Path       string // "" is the working directory
	Include    string // glob that file names must match
	Literal    bool
	IgnoreCase bool
}

// Glob lists paths that match a pattern.
type Glob struct {
	Pattern string
	Path    string // "" is the working directory
}

// Tool implements Request.
func (ReadText) Tool() string { return NameRead }

// Tool implements Request.
func (WriteFile) Tool() string { return NameWrite }

// Tool implements Request.
func (EditFile) Tool() string { return NameEdit }

// Tool implements Request.
func (Exec) Tool() string { return NameBash }

// Tool implements Request.
func (Grep) Tool() string { return NameGrep }

// Tool implements Request.
func (Glob) Tool() string { return NameGlob }
