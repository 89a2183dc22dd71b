package work

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"unicode/utf8"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/plaintext"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	maxLines = 2000
	maxText  = 50 << 10
	maxImage = 5 << 20
	maxList  = 1 << 20 // bytes of a directory's names
	sniff    = 8 << 10 // bytes that tell text from binary
)

// readText is what a model sees of a path. It reads the whole of a text file to count its lines, twice when the
// window is counted from the end, and holds no more of it than it shows.
func readText(ctx context.Context, sb sandbox.Sandbox, path string, q *pawlv1.ReadText) (*pawlv1.Result_Text, error) {
	f, info, err := sb.Open(ctx, path)
	if errors.Is(err, sandbox.ErrIsDir) {
		return entries(ctx, sb, path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &pawlv1.TextResult{Size: info.Size}
	head := make([]byte, sniff)
	n, err := io.ReadFull(ctxReader{ctx, f}, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if head = head[:n]; n > 0 {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	err = nil
	switch media := imageType(head); {
	case media != "" && info.Size <= maxImage:
		r.MediaType = media
		r.Image, err = io.ReadAll(io.LimitReader(ctxReader{ctx, f}, maxImage+1))
		if len(r.Image) > maxImage { // it grew while it was read
			r.Image, r.Binary = nil, true
		}
	case media != "":
		r.Binary, r.MediaType = true, media
	default:
		err = showText(ctx, f, head, q, r)
	}
	if err != nil {
		return nil, err
	}
	return &pawlv1.Result_Text{Text: r}, nil
}

func entries(ctx context.Context, sb sandbox.Sandbox, path string) (*pawlv1.Result_Text, error) {
	names, err := sb.ReadDir(ctx, path)
	if err != nil {
		return nil, err
	}
	r := &pawlv1.TextResult{IsDir: true, TotalLines: int64(len(names))}
	size := 0
	for _, n := range names {
		n = valid(n)
		if size += len(n); size > maxList {
			break
		}
		r.Entries = append(r.Entries, n)
	}
	return &pawlv1.Result_Text{Text: r}, nil
}

func imageType(head []byte) string {
	switch t := http.DetectContentType(head); t {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return t
	}
	return ""
}

// showText fills in what the window shows of a text file.
func showText(ctx context.Context, f io.ReadSeeker, head []byte, q *pawlv1.ReadText, r *pawlv1.TextResult) error {
	encoding, ok := plaintext.Detect(head)
	if !ok {
		r.Binary = true
		return nil
	}
	text := func() *bufio.Reader {
		return bufio.NewReaderSize(plaintext.NewReader(ctxReader{ctx, f}, encoding), 64<<10)
	}
	first := max(1, q.GetOffset())
	if q.GetOffset() < 0 {
		counted := &pawlv1.TextResult{}
		if err := window(text(), math.MaxInt64, q, counted); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		first = max(1, counted.GetTotalLines()+1+max(q.GetOffset(), -counted.GetTotalLines()))
	}
	return window(text(), first, q, r)
}

// window fills in whole lines from the first on, as many as the limits allow, and counts all lines.
func window(in *bufio.Reader, first int64, q *pawlv1.ReadText, r *pawlv1.TextResult) error {
	most := int64(maxLines)
	if q.GetLimit() > 0 {
		most = min(most, q.GetLimit())
	}
	r.FirstLine = first
	w := windower{r: r, first: first, most: most, line: 1}
	for {
		piece, err := in.ReadSlice('\n')
		w.take(piece)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			w.end()
			return nil
		case err != nil:
			return err
		}
	}
}

type windower struct {
	r     *pawlv1.TextResult
	first int64
	most  int64
	line  int64 // number of the current line
	open  bool  // it has bytes and no end yet
	whole int   // length of content without the current line
	full  bool  // nothing more goes in
}

// take gets a piece of a line, with its end if there is one.
func (w *windower) take(p []byte) {
	if len(p) == 0 {
		return
	}
	w.open = true
	if !w.full && w.line >= w.first {
		w.keep(p)
	}
	if p[len(p)-1] == '\n' {
		w.close()
	}
}

func (w *windower) keep(p []byte) {
	c := &w.r.Content
	if len(*c)+len(p) <= maxText {
		*c = append(*c, p...)
		return
	}
	w.full = true
	if w.whole > 0 {
		*c = (*c)[:w.whole] // whole lines only
		return
	}
	*c = append(*c, p[:maxText-len(*c)]...)
	*c = (*c)[:runeEnd(*c)]
	w.r.LineCut, w.r.Lines = true, 1
}

// close ends the current line.
func (w *windower) close() {
	if !w.full && w.line >= w.first {
		w.r.Lines++
		w.whole = len(w.r.Content)
		w.full = w.r.Lines >= w.most
	}
	w.open = false
	w.line++
}

func (w *windower) end() {
	if w.open {
		w.close()
	}
	w.r.TotalLines = w.line - 1
}

// runeEnd is how much of b is whole runes, if only its end is cut.
func runeEnd(b []byte) int {
	for n := len(b) - 1; n >= 0 && n > len(b)-utf8.UTFMax; n-- {
		if utf8.RuneStart(b[n]) {
			if utf8.FullRune(b[n:]) {
				return len(b)
			}
			return n
		}
	}
	return len(b)
}

// ctxReader ends reading with a context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
