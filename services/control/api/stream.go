package api

import (
	"time"

	"google.golang.org/grpc"

	"github.com/pawl-dev/pawl/internal/errs"
)

const (
	// maxStreamed is how many bytes of content go into one message of a stream of events. For a reader that takes nothing gRPC holds two:
	// one that it has queued and one that waits.
	maxStreamed = 64 << 10
	// stalled is how long a reader of events may take nothing before it counts as gone, as at the gateway.
	stalled = 2 * time.Minute
)

var errStalled = errs.New(errs.ResourceExhausted, "READER_STALLED",
	"the reader took nothing for 2 minutes; call WatchSession with the seq of the last event it has as after to go on from there")

// send is the stream's Send, but for a reader that takes nothing: the handler must then return with the error. Nothing but its end
// ends the Send that is left behind, and does so at once: no goroutine outlives the stream.
func send[T any](stream grpc.ServerStreamingServer[T], m *T) error {
	sent := make(chan error, 1)
	go func() { sent <- stream.Send(m) }()
	limit := time.NewTimer(stalled)
	defer limit.Stop()
	select {
	case err := <-sent:
		return err
	case <-limit.C:
		return errStalled
	}
}
