package transcode

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
)

// uploadPiece is how much of a body is sent on at once: with what is around it, it fits into gRPC's buffers of 32 KiB.
// The next larger ones have a megabyte.
const uploadPiece = 31 << 10

// Written is the answer to a PUT.
type Written struct {
	Size       int64  `json:"size"`
	Sha256     string `json:"sha256"` // in hex: of a file also its ETag
	ExecutorID string `json:"executorId"`
	Created    bool   `json:"created"` // nothing had the path before
}

// put answers PUT: the body is passed on as it comes. Without its end nothing is replaced.
func (s *fileServer) put(ctx context.Context) error {
	condition, sum, err := s.asked()
	if err != nil {
		s.w.Header().Set("Connection", "close") // nobody reads the body
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.rpc.WriteFile(ctx)
	if err != nil {
		return err
	}
	start := &pawlv1.WriteFileRequest_Start{
		Target: s.target, Path: s.path, Condition: condition, Archive: s.archive,
	}
	in := s.incoming(stream)
	defer func() { cancel(); <-in.over }() // it has the response's deadlines
	ok := stream.Send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Start_{Start: start}}) == nil
	if ok {
		ok, err = in.pass()
	}
	in.finish(ok)
	if err != nil {
		s.w.Header().Set("Connection", "close")
		return err
	}
	if ok {
		end := &pawlv1.WriteFileRequest_End{Sha256: sum}
		_ = stream.Send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_End_{End: end}})
	} else {
		s.w.Header().Set("Connection", "close")
	}
	_ = stream.CloseSend() // what was answered says why, when sending fails
	<-in.over
	if in.err != nil {
		return in.err
	}
	return s.written(in.answer)
}

// asked is what the headers of a PUT ask for.
func (s *fileServer) asked() (condition *pawlv1.FileCondition, sum []byte, err error) {
	head := s.r.Header
	if coding := head.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, nil, errEncoding
	}
	if head.Get("Content-Range") != "" {
		return nil, nil, errPartial
	}
	for _, name := range []string{"Repr-Digest", "Content-Digest"} {
		if sum, err = digestOf(head.Get(name)); sum != nil || err != nil {
			break
		}
	}
	if err == nil {
		condition, err = conditionOf(head)
	}
	return condition, sum, err
}

// digestOf is the SHA-256 that a digest field of RFC 9530 names, nil for none.
func digestOf(field string) ([]byte, error) {
	for one := range strings.SplitSeq(field, ",") {
		value, ok := strings.CutPrefix(strings.TrimSpace(one), "sha-256=")
		if !ok {
			continue // other algorithms are not checked
		}
		sum, err := base64.StdEncoding.DecodeString(strings.Trim(value, ":"))
		if err != nil || len(sum) != 32 {
			return nil, errDigest
		}
		return sum, nil
	}
	return nil, nil
}

// restLimit is how long the rest of a body that nobody wants may take to arrive.
const restLimit = 5 * time.Second

// incoming is a body on its way, and the answer that may come before all of it has.
type incoming struct {
	stream grpc.ClientStreamingClient[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse]
	body   io.Reader
	ctl    *http.ResponseController // some connections have no deadlines

	over   chan struct{} // closed when there is an answer
	answer *pawlv1.WriteFileResponse
	err    error // instead of it

	mu       sync.Mutex // guards what follows, and the deadline
	answered bool
	finished bool
}

// incoming waits for the answer beside: whoever sends the body may pause for long.
func (s *fileServer) incoming(
	stream grpc.ClientStreamingClient[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse],
) *incoming {
	in := &incoming{
		stream: stream, body: s.r.Body, ctl: http.NewResponseController(s.w), over: make(chan struct{}),
		answer: &pawlv1.WriteFileResponse{},
	}
	go func() {
		defer close(in.over)
		in.err = contain.Do(func() error { return stream.RecvMsg(in.answer) })
		in.mu.Lock()
		defer in.mu.Unlock()
		in.answered = true
		if !in.finished {
			_ = in.ctl.SetReadDeadline(time.Now())
		}
	}()
	return in
}

// read reads a piece of the body. over says that there is an answer already.
func (in *incoming) read(buf []byte) (n int, over bool, err error) {
	in.mu.Lock()
	over = in.answered
	if !over {
		_ = in.ctl.SetReadDeadline(time.Now().Add(sse.Stalled))
	}
	in.mu.Unlock()
	if over {
		return 0, true, nil
	}
	n, err = in.body.Read(buf)
	in.mu.Lock()
	defer in.mu.Unlock()
	return n, in.answered && errors.Is(err, os.ErrDeadlineExceeded), err
}

// finish sets the deadline for what comes next over the connection: whole says that it is not the body's rest.
func (in *incoming) finish(whole bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.finished = true
	deadline := time.Time{}
	if !whole {
		deadline = time.Now().Add(restLimit)
	}
	_ = in.ctl.SetReadDeadline(deadline)
}

// pass sends the body on. ok is false when it cannot be sent any more; an error says that it did not come.
func (in *incoming) pass() (ok bool, err error) {
	buf := make([]byte, uploadPiece)
	for {
		n, over, err := in.read(buf)
		if over || n > 0 && in.stream.Send(&pawlv1.WriteFileRequest{
			Part: &pawlv1.WriteFileRequest_Data{Data: buf[:n]},
		}) != nil {
			return false, nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false, errLate
		case err != nil:
			return false, errBody.With("the body could not be read to its end")
		}
	}
}

func (s *fileServer) written(got *pawlv1.WriteFileResponse) error {
	sum := got.GetWritten().GetSha256()
	body, err := json.Marshal(Written{
		Size: got.GetWritten().GetSize(), Sha256: hex.EncodeToString(sum), ExecutorID: got.GetExecutorId(),
		Created: got.GetCreated(),
	})
	if err != nil {
		return err
	}
	s.w.Header().Set("Content-Type", "application/json")
	s.w.Header().Set("Cache-Control", "no-store")
	if s.archive == 0 {
		s.w.Header().Set("ETag", tagOf(sum))
	}
	if got.GetCreated() {
		s.header(http.StatusCreated)
	} else {
		s.header(http.StatusOK)
	}
	return s.write(append(body, '\n'))
}
