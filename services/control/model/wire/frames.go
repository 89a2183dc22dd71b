package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// Frames reads a stream of events as AWS frames it. It is used by one goroutine.
type Frames struct {
	src     *bufio.Reader
	decoder *eventstream.Decoder
	payload []byte // is used again for the next event
	garbage []byte
}

// NewFrames reads from src.
func NewFrames(src io.Reader) *Frames {
	return &Frames{src: bufio.NewReader(src), decoder: eventstream.NewDecoder()}
}

// Release is there because Reader has it; Frames keeps nothing.
func (*Frames) Release() {}

// Garbage is the beginning of what came and was no event.
func (f *Frames) Garbage() []byte { return f.garbage }

// Next is the next event. An error that the stream has in the place of one has the name "exception"; JSON that is not
// framed has none. At the end of the stream the error is io.EOF; it is a *ForeignError when what comes is no frame, and
// otherwise the error of reading.
func (f *Frames) Next() (Event, error) {
	begin, err := f.src.Peek(1)
	if err != nil {
		return Event{}, err
	}
	if begin[0] != 0 { // of a length, which is never so large
		return f.document()
	}
	message, err := f.decoder.Decode(f.src, f.payload[:0])
	var read interface{ Timeout() bool }
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Event{}, io.EOF
	case err != nil && errors.As(err, &read):
		return Event{}, err
	case err != nil:
		return Event{}, unframed(err)
	}
	f.payload = message.Payload
	header := func(name string) string {
		if v := message.Headers.Get(name); v != nil {
			return v.String()
		}
		return ""
	}
	switch header(":message-type") {
	case "exception":
		return exception(header(":exception-type"), message.Payload), nil
	case "error":
		return exception(header(":error-code"), rawjson.AppendString(nil, header(":error-message"))), nil
	}
	data := message.Payload
	if len(data) == 0 {
		data = []byte("{}")
	}
	return Event{Name: []byte(header(":event-type")), Data: data}, nil
}

// document is what comes in the place of frames: JSON is an event, such as a whole answer, or an error of a server that
// stands between here and AWS. It is the last one.
func (f *Frames) document() (Event, error) {
	came, err := io.ReadAll(io.LimitReader(f.src, maxSkipped))
	if whole := bytes.TrimSpace(came); err == nil && (isObject(whole) || bytes.HasPrefix(whole, []byte("["))) {
		return Event{Data: whole}, nil
	}
	f.garbage = append(f.garbage[:0], came[:min(len(came), maxGarbage)]...)
	return Event{}, io.EOF
}

// unframed is an error of a frame that cannot be read.
func unframed(err error) error {
	var checksum eventstream.ChecksumError
	var length eventstream.LengthError
	if errors.As(err, &checksum) || errors.As(err, &length) {
		return &ForeignError{What: fmt.Sprintf("a frame of the provider's stream cannot be read: %v", err)}
	}
	return err
}

// exceptionName is the name of an event that reports an error.
const exceptionName = "exception"

// exception is an error in the form that other APIs have.
func exception(kind string, payload []byte) Event {
	message := payload
	if !isString(message) {
		if message = member(payload, "message"); message == nil {
			message = member(payload, "Message")
		}
	}
	if !isString(message) {
		message = rawjson.AppendString(nil, string(payload[:min(len(payload), maxQuote)]))
	}
	data := rawjson.AppendString([]byte(`{"error":{"type":`), kind)
	data = append(append(append(data, `,"message":`...), message...), `}}`...)
	return Event{Name: []byte(exceptionName), Data: data}
}
