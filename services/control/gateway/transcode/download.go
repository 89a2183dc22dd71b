package transcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
)

// sniffed is how much of a file tells its type.
const sniffed = 512

// span is the range of a request: from a byte on, or the last ones. length is nil for all up to the end.
type span struct {
	offset int64 // negative: from the end
	length *int64
	last   bool // offset counts from the end
}

// parseRange reads a Range header. ok is false for none, and for what is answered with the whole file: several ranges,
// other units than bytes, and what is no range.
func parseRange(text string) (s span, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(text), "-")
	if !ok || !dash {
		return span{}, false
	}
	end, err := strconv.ParseUint(last, 10, 63)
	if last != "" && err != nil {
		return span{}, false
	}
	if first == "" { // the last bytes
		return span{offset: -int64(end), last: true}, last != ""
	}
	begin, err := strconv.ParseUint(first, 10, 63)
	switch {
	case err != nil, last != "" && end < begin:
		return span{}, false
	case last != "":
		length := int64(min(end-begin, math.MaxInt64-1)) + 1
		return span{offset: int64(begin), length: &length}, true
	}
	return span{offset: int64(begin)}, true
}

// in is where the span is in a file of a size. ok is false when none of it is.
func (s span) in(size int64) (from, length int64, ok bool) {
	from, length = s.offset, size-s.offset
	if s.last {
		length = min(size, -s.offset)
		from = size - length
	}
	if s.length != nil {
		length = min(length, *s.length)
	}
	return from, length, length > 0
}

// download is a file that is open for a client.
type download struct {
	stream grpc.ServerStreamingClient[pawlv1.ReadFileResponse]
	cancel context.CancelFunc
	opened *pawlv1.ReadFileResponse_Opened
	first  []byte // came already
	err    error  // behind first
}

// open opens the file, or a span of it. The caller cancels it.
func (s *fileServer) open(ctx context.Context, part span) (*download, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := s.rpc.ReadFile(ctx, &pawlv1.ReadFileRequest{
		Target: s.target, Path: s.path, Offset: part.offset, Length: part.length, Archive: s.archive,
	})
	if err == nil {
		var m *pawlv1.ReadFileResponse
		if m, err = stream.Recv(); err == nil {
			d := &download{stream: stream, cancel: cancel, opened: m.GetOpened()}
			// That the executor has begun does not say that there is something to read.
			d.first, d.err = d.next()
			if err = d.err; err == nil || errors.Is(err, io.EOF) {
				return d, nil
			}
		}
	}
	cancel()
	return nil, err
}

// next is the next piece, io.EOF after the last one of a whole stream.
func (d *download) next() ([]byte, error) {
	if first := d.first; first != nil || d.err != nil {
		d.first = nil
		if first != nil {
			return first, nil
		}
		return nil, d.err
	}
	m, err := d.stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF // nobody has said that it is done
	case err != nil:
		return nil, err
	case m.GetDone() != nil:
		return nil, io.EOF
	}
	return m.GetData(), nil
}

// get answers GET and HEAD.
func (s *fileServer) get(ctx context.Context) error {
	part, ranged := parseRange(s.r.Header.Get("Range"))
	ranged = ranged && s.archive == 0 && s.r.Method == http.MethodGet
	if !ranged {
		part = span{}
	}
	d, err := s.open(ctx, part)
	ctx = asPart(ctx)
	if reasonIs(err, "IS_DIR") && s.archive == 0 {
		return s.list(ctx)
	}
	if err != nil {
		return err
	}
	defer func() { d.cancel() }()
	if s.archive != 0 {
		return s.sendArchive(d)
	}
	tag := tagOf(d.opened.GetSha256())
	if tag != "" {
		s.w.Header().Set("ETag", tag)
	}
	s.w.Header().Set("Cache-Control", "private, no-cache")
	if done, err := s.condition(d.opened.GetSha256()); done || err != nil {
		return err
	}
	if only := s.r.Header.Get("If-Range"); ranged && (d.opened.Size == nil || only != "" && only != tag) {
		ranged = false
		d.cancel()
		again, err := s.open(ctx, span{})
		if err != nil {
			return err
		}
		d = again
	}
	if ranged {
		return s.sendRange(ctx, d, part)
	}
	return s.sendFile(d)
}

// condition evaluates the conditions of a GET; done says that it was answered.
func (s *fileServer) condition(sum []byte) (done bool, err error) {
	match, none := parseTags(s.r.Header.Values("If-Match")), parseTags(s.r.Header.Values("If-None-Match"))
	switch {
	case match.given && !match.any && !match.has(sum, false):
		return false, errCondition.With("the file does not have the ETag that If-Match names, or is too large for one")
	case none.given && (none.any || none.has(sum, true)):
		s.w.WriteHeader(http.StatusNotModified)
		return true, nil
	}
	return false, nil
}

// describe sets the headers that say what a file is. Browsers show what cannot run, and save the rest.
func (s *fileServer) describe(kind string) {
	head := s.w.Header()
	head.Set("Content-Type", kind)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	head.Set("Content-Disposition", disposition(kind, s.path))
	if s.archive == 0 {
		head.Set("Accept-Ranges", "bytes")
	}
}

// shown are the types that browsers may show: none of them can run a script.
var shown = map[string]bool{
	"text/plain": true, "image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/bmp": true,
	"audio/mpeg": true, "audio/wave": true, "video/mp4": true, "video/webm": true,
}

func disposition(kind, name string) string {
	how := "attachment"
	if plain, _, err := mime.ParseMediaType(kind); err == nil && shown[plain] {
		how = "inline"
	}
	name = path.Base(name)
	if kind == tarType {
		if name == "." || name == "/" {
			name = "files"
		}
		name += ".tar"
	}
	if full := mime.FormatMediaType(how, map[string]string{"filename": name}); full != "" {
		return full
	}
	return how
}

// sendFile answers with a whole file.
func (s *fileServer) sendFile(d *download) error {
	first, err := d.next()
	for err == nil && len(first) < sniffed { // the first pieces may be short
		var more []byte
		more, err = d.next()
		first = append(first, more...)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	whole := errors.Is(err, io.EOF)
	s.describe(http.DetectContentType(first))
	left := int64(-1)
	if d.opened.Size != nil {
		left = d.opened.GetSize()
		s.w.Header().Set("Content-Length", strconv.FormatInt(left, 10))
	}
	s.header(http.StatusOK)
	if s.r.Method == http.MethodHead {
		return nil
	}
	if whole {
		return s.last(first, left)
	}
	return s.send(d, first, left)
}

// sendRange answers with a part of a file.
func (s *fileServer) sendRange(ctx context.Context, d *download, part span) error {
	size := d.opened.GetSize()
	from, length, ok := part.in(size)
	if !ok {
		s.w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return errRange.With("the range %.64q has no byte of the file, which has %d", s.r.Header.Get("Range"), size)
	}
	kind, err := s.sniff(ctx)
	if err != nil {
		return err
	}
	s.describe(kind)
	s.w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, size))
	s.w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	s.header(http.StatusPartialContent)
	return s.send(d, nil, length)
}

// sniff is the type of the file, whatever part of it is asked for.
func (s *fileServer) sniff(ctx context.Context) (string, error) {
	length := int64(sniffed)
	d, err := s.open(ctx, span{length: &length})
	if err != nil {
		return "", err
	}
	defer d.cancel()
	var first []byte
	for {
		data, err := d.next()
		if errors.Is(err, io.EOF) {
			return http.DetectContentType(first), nil
		}
		if err != nil {
			return "", err
		}
		first = append(first, data...)
	}
}

const tarType = "application/x-tar"

func (s *fileServer) sendArchive(d *download) error {
	s.describe(tarType)
	s.w.Header().Set("Cache-Control", "no-store")
	s.header(http.StatusOK)
	if s.r.Method == http.MethodHead {
		return nil
	}
	return s.send(d, nil, -1)
}

func (s *fileServer) header(status int) {
	s.begun = true
	s.w.WriteHeader(status)
}

// send sends what is there and then what comes, left bytes in all; a negative left is all that comes. What is appended
// to a file while it is sent is not part of the answer.
func (s *fileServer) send(d *download, data []byte, left int64) error {
	for {
		if left >= 0 && int64(len(data)) >= left {
			return s.last(data[:left], left)
		}
		if err := s.write(data); err != nil {
			return err
		}
		if left >= 0 {
			left -= int64(len(data))
		}
		var err error
		data, err = d.next()
		if errors.Is(err, io.EOF) {
			return s.last(nil, left)
		}
		if err != nil {
			return err
		}
	}
}

// last sends the last bytes, which have to be all that were announced.
func (s *fileServer) last(data []byte, left int64) error {
	if left >= 0 && int64(len(data)) < left {
		return fmt.Errorf("the file has become %s shorter while it was sent", plural.Of(left-int64(len(data)), "byte"))
	}
	if left >= 0 {
		data = data[:left]
	}
	return s.write(data)
}

func (s *fileServer) write(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	_ = http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(sse.Stalled)) // some writers have none
	if _, err := s.w.Write(data); err != nil {
		return errGone
	}
	return nil
}

func isText(s string) bool { return utf8.ValidString(s) }
