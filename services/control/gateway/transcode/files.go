package transcode

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// FileMethods are those of the paths of files, see FilePaths.
var FileMethods = []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPut}

// FilePaths are the templates of the paths of files, whose bytes are no JSON. {path} is the rest of a path, slashes and
// all. Each of them knows FileMethods.
var FilePaths = []string{"/v1/executors/{executor_id}/files/{path}", "/v1/sessions/{session_id}/files/{path}"}

// Failures of requests for files.
var (
	errCondition = errs.New(errs.FailedPrecondition, "CONDITION_FAILED", "the condition of the request does not hold; "+
		"nothing was done")
	errRange   = errs.New(errs.OutOfRange, "RANGE_NOT_SATISFIABLE", "the range begins behind the end of the file")
	errPartial = errs.New(errs.InvalidArgument, "CONTENT_RANGE", "a part of a file cannot be written: send all of it")
	errDigest  = errs.New(errs.InvalidArgument, "DIGEST_INVALID", "Repr-Digest and Content-Digest are read as "+
		"sha-256=:BASE64:")
	errEncoding = errs.New(errs.InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", "send the content as it is, without a "+
		"Content-Encoding")
)

// fileRequest is a request for the path of a file.
type fileRequest struct {
	target    *pawlv1.FileTarget
	path      string
	archive   pawlv1.Archive
	recursive bool
}

// filePath reads the path of a file. Its segments are decoded after it has been split. ok is false for other paths.
func filePath(escaped string) (f fileRequest, ok bool, err error) {
	parts := strings.Split(strings.TrimPrefix(escaped, "/v1/"), "/")
	if len(parts) < 3 || parts[0] != "sessions" && parts[0] != "executors" || parts[2] != "files" {
		return f, false, nil
	}
	id, err := url.PathUnescape(parts[1])
	if err != nil || id == "" {
		return f, false, nil
	}
	if !utf8.ValidString(id) {
		return f, true, errPath.With("an id is UTF-8")
	}
	f.target = &pawlv1.FileTarget{Target: &pawlv1.FileTarget_SessionId{SessionId: id}}
	if parts[0] == "executors" {
		f.target = &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: id}}
	}
	names := parts[3:]
	for i := range names {
		if names[i], err = url.PathUnescape(names[i]); err != nil {
			return f, true, errPath.With("%s", clean(err))
		}
	}
	f.path = strings.Join(names, "/")
	if !isText(f.path) {
		return f, true, errPath.With("a path is UTF-8")
	}
	if f.path == "" {
		f.path = "."
	}
	return f, true, nil
}

// parameters reads the query.
func (f *fileRequest) parameters(r *http.Request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errQuery.With("the query is malformed: %s", clean(err))
	}
	for key, all := range values {
		value := all[len(all)-1]
		switch {
		case key == "archive" && value == "tar" && r.Method != http.MethodDelete:
			f.archive = pawlv1.Archive_ARCHIVE_TAR
		case key == "archive":
			return errQuery.With("archive is tar, of a directory that is read or written")
		case key == "recursive" && r.Method == http.MethodDelete:
			if f.recursive, err = strconv.ParseBool(value); err != nil {
				return errQuery.With("recursive is true or false")
			}
		default:
			return errQuery.With("there is no parameter %.64q", key)
		}
	}
	return nil
}

// files answers a request for the path of a file.
func (h *Handler) files(w http.ResponseWriter, r *http.Request, f fileRequest) {
	if !slices.Contains(FileMethods, r.Method) {
		allow := strings.Join(FileMethods, ", ")
		w.Header().Set("Allow", allow)
		h.Refuse(w, r, errMethod.With("%s is not allowed here; this path knows %s", r.Method, allow))
		return
	}
	if err := f.parameters(r); err != nil {
		h.Refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.stopping, func() { cancel(ErrStopping) })()
	ctx = asCaller(ctx, r.Header.Get("Authorization"))
	s := &fileServer{h: h, rpc: pawlv1.NewFileServiceClient(h.conn), w: w, r: r, fileRequest: f}
	var err error
	switch r.Method {
	case http.MethodPut:
		err = s.put(ctx)
	case http.MethodDelete:
		err = s.remove(ctx)
	default:
		err = s.get(ctx)
	}
	switch {
	case err == nil, errors.Is(err, errGone):
	case s.begun: // what was sent must not be taken for the whole
		h.Problem(r.Context(), cause(ctx, err), w.Header().Get(RequestIDHeader)) // logs what callers may not know
		panic(http.ErrAbortHandler)
	default:
		h.Refuse(w, r, cause(ctx, err))
	}
}

// fileServer answers one request for a file.
type fileServer struct {
	h   *Handler
	rpc pawlv1.FileServiceClient
	w   http.ResponseWriter
	r   *http.Request
	fileRequest
	begun bool // the status was sent
}

// remove answers DELETE.
func (s *fileServer) remove(ctx context.Context) error {
	condition, err := conditionOf(s.r.Header)
	if err != nil {
		return err
	}
	if _, err = s.rpc.Remove(ctx, &pawlv1.RemoveRequest{
		Target: s.target, Path: s.path, Recursive: s.recursive, Condition: condition,
	}); err != nil {
		return err
	}
	s.w.WriteHeader(http.StatusNoContent)
	return nil
}

// conditionOf is what If-Match and If-None-Match ask for, nil for nothing.
func conditionOf(head http.Header) (*pawlv1.FileCondition, error) {
	match, none := parseTags(head.Values("If-Match")), parseTags(head.Values("If-None-Match"))
	if !match.given && !none.given {
		return nil, nil
	}
	c := &pawlv1.FileCondition{Sha256: match.strong, NotSha256: slices.Concat(none.strong, none.weak)}
	if match.given && !match.any && len(match.strong) == 0 {
		return nil, errCondition.With("If-Match names no ETag that a file can have; nothing was done")
	}
	if match.given && none.any {
		return nil, errCondition.With("something cannot be there and not be there; nothing was done")
	}
	if match.given || none.any {
		c.Exists = &match.given
	}
	return c, nil
}

// tags are the ETags of a header. Those that no file here can have are left out.
type tags struct {
	given, any   bool
	strong, weak [][]byte
}

func parseTags(values []string) (t tags) {
	text := strings.Join(values, ",")
	t.given, t.any = len(values) > 0, strings.TrimSpace(text) == "*"
	for one := range strings.SplitSeq(text, ",") { // an ETag with a comma is no file's here
		one = strings.TrimSpace(one)
		quoted, weak := strings.CutPrefix(one, "W/")
		sum, err := hex.DecodeString(strings.Trim(quoted, `"`))
		switch {
		case err != nil || len(sum) != 32 || tagOf(sum) != strings.ToLower(quoted):
		case weak:
			t.weak = append(t.weak, sum)
		default:
			t.strong = append(t.strong, sum)
		}
	}
	return t
}

// has reports whether an ETag is among these. Weak ones count where bytes are not to be put together.
func (t tags) has(sum []byte, weak bool) bool {
	is := func(other []byte) bool { return len(sum) > 0 && string(sum) == string(other) }
	return slices.ContainsFunc(t.strong, is) || weak && slices.ContainsFunc(t.weak, is)
}

// tagOf is the ETag of content with a hash, "" when that is not known.
func tagOf(sum []byte) string {
	if len(sum) == 0 {
		return ""
	}
	return `"` + hex.EncodeToString(sum) + `"`
}

// reasonIs reports whether an error of an RPC has a reason.
func reasonIs(err error, reason string) bool { return rpc.Reason(err) == reason }
