package mcpclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// Kind says what is known of a request that has no result.
type Kind uint8

// Kinds.
const (
	// Answered: the server has answered with an error.
	Answered Kind = iota + 1
	// NotSent: the request has not left this process, so that nothing has happened.
	NotSent
	// Refused: who was asked has refused the request by a status of HTTP, without acting on it.
	Refused
	// Lost: the request was sent, and its answer will not come. Whether the server has acted is unknown.
	Lost
)

// Error is why a request has no result.
type Error struct {
	Kind    Kind
	Code    int64 // of JSON-RPC, or the status of HTTP; 0 for none
	Message string
}

// maxTold bounds the bytes of what is told of an error: servers may say a lot.
const maxTold = 2000

func failure(kind Kind, code int64, text string) *Error {
	return &Error{kind, code, strings.ToValidUTF8(text[:min(len(text), maxTold)], "\uFFFD")}
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// exchange is what is known of one request on its way.
type exchange struct {
	sent   atomic.Bool
	status atomic.Int32
}

type exchangeKey struct{}

// Sent is a context for a request of HTTP which notes that the request was sent. Answer notes what was answered.
func Sent(ctx context.Context) context.Context {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { x.sent.Store(true) }})
}

// Requested reports whether a context is that of a request that Do makes. Others are answers to what a server asks,
// notifications, and the making of a session.
func Requested(ctx context.Context) bool {
	_, ok := ctx.Value(exchangeKey{}).(*exchange)
	return ok
}

// Answer notes with which status a request of HTTP, whose context ctx is, was answered. What was taken once is not
// refused any more: a call whose stream broke has happened, whatever the server says to whoever wants to read on. So
// the refusal of anything but a POST loses its body, which the library would take for the answer to the call.
func Answer(ctx context.Context, res *http.Response, method string) error {
	taken := res.StatusCode/100 == 2
	if method != http.MethodPost {
		if taken {
			return nil
		}
		err := res.Body.Close()
		res.Body = http.NoBody
		return err
	}
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if ok && x.status.Load()/100 != 2 {
		x.status.Store(int32(res.StatusCode))
	}
	return nil
}

// Codes of errors that the library makes itself, without an answer of the server.
const (
	codeClientClosing = -32003
	codeServerClosing = -32004
	codeNotCarried    = -32005
)

// classify says what an error of the library means.
func (x *exchange) classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var answered *jsonrpc.Error
	local := func(code int64) bool {
		return code == codeClientClosing || code == codeServerClosing || code == codeNotCarried
	}
	status := int(x.status.Load())
	switch {
	case errors.As(err, &answered) && !local(answered.Code):
		return failure(Answered, answered.Code, answered.Message)
	case !x.sent.Load():
		return failure(NotSent, 0, err.Error())
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return &Error{Refused, int64(status), fmt.Sprintf("the server has refused the request with status %d %s",
			status, http.StatusText(status))}
	}
	return failure(Lost, int64(status), err.Error())
}
