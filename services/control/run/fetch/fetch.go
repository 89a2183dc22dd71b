// Package fetch carries out the http steps of workflows.
//
//	drive.HTTP ──▶ checked: URL, headers, body ──▶ package egress ──▶ answer, a text of bounded size ──▶ drive.Fetched
//	                       │                            │
//	                   http_refused    http_unreachable: nothing was sent
//	                                   no whole answer: http_unanswered, or unknown if the request may not be repeated
//
// Invariants: a request is sent once, over a connection of its own; a failure of which nothing is said to be unknown is
// one before anything was sent, one of a request that may be repeated, or an answer; no secret is in an outcome.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Bounds of one request.
const (
	// MaxBody bounds a body, of a request and of an answer after decompression, in bytes.
	MaxBody = 12 << 20
	// MaxTime is how long a request without a timeout may take.
	MaxTime = 10 * time.Minute

	maxURL     = 8 << 10
	maxHeaders = 64 << 10
	maxWhy     = 500 // bytes of what is said of an error
)

// Client makes requests. It may be used concurrently.
type Client struct {
	hosts egress.Hosts
	http  *http.Client
	most  int64 // bytes of an answer
}

// New is a client for an allowlist of hosts. c is used with its Redirect, MaxBody and Fresh replaced.
func New(hosts egress.Hosts, c egress.Client) *Client { return newClient(hosts, c, MaxBody) }

// newClient is a client that takes answers of at most so many bytes.
func newClient(hosts egress.Hosts, c egress.Client, most int64) *Client {
	c.MaxBody, c.Redirect, c.Fresh = most, nil, true
	h := c.HTTP()
	h.CheckRedirect = follow(h.CheckRedirect)
	return &Client{hosts, h, most}
}

// Request is a step to be carried out.
type Request struct {
	drive.HTTP
	// Key is the header Idempotency-Key, unless the step has its own: see Key.
	Key string
	// Secrets are kept out of the outcome.
	Secrets []string
	// Again says that an owner before may have sent the request.
	Again bool
	// Timeout is how long it may take; 0 is MaxTime.
	Timeout time.Duration
}

// Key is the Idempotency-Key of a step: of a run, in its attempt of that number, at a path. All tries of the step have
// one, so that a server that has acted on one tells that from the next.
func Key(runID string, attempt int, path string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s", runID, attempt, path))
	return hex.EncodeToString(sum[:16])
}

// Safety is that of a request: GET and HEAD are idempotent, others happen at most once, unless the step says otherwise.
func Safety(do *workflow.HTTP) workflow.Safety {
	switch {
	case do.Safety != "":
		return do.Safety
	case do.Method == "", do.Method == http.MethodGet, do.Method == http.MethodHead:
		return workflow.Idempotent
	}
	return workflow.AtMostOnce
}

// Do makes a request and says what became of it. It ends soon after ctx, as cancelled, or as unknown if the request may
// have been sent and must not be repeated.
func (c *Client) Do(ctx context.Context, r Request) drive.Outcome {
	began := time.Now()
	t := &try{Request: r, clean: tool.NewCleaner(r.Secrets), repeatable: Safety(r.Step) != workflow.AtMostOnce}
	out := c.do(ctx, t)
	out.Took = time.Since(began)
	return out
}

// try is a request under way.
type try struct {
	Request
	clean      tool.Cleaner
	repeatable bool
	host       string
	within     context.Context // until its time is over
	sent       atomic.Bool     // it may have been
}

func (c *Client) do(ctx context.Context, t *try) drive.Outcome {
	if t.Again && !t.repeatable {
		return t.unknown("the control plane stopped while the request was made")
	}
	limit := t.Timeout
	if limit <= 0 {
		limit = MaxTime
	}
	var cancel func()
	t.within, cancel = context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := t.request(httptrace.WithClientTrace(
		context.WithValue(t.within, stepKey{}, t.Step.OK),
		&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { t.sent.Store(true) }},
	))
	if err == nil {
		err = c.hosts.Check(req.URL)
	}
	if err != nil {
		return t.failed(drive.ReasonRefused, t.say(err))
	}
	t.host = req.URL.Host
	res, err := c.http.Do(req)
	if err != nil {
		return t.unanswered(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	switch {
	case errors.Is(err, egress.ErrTooLarge):
		return t.failed(drive.ReasonTooLarge, fmt.Sprintf("the answer of %s has more than %d bytes", t.host, c.most))
	case err != nil:
		return t.unanswered(ctx, fmt.Errorf("the answer, %d, was cut off: %w", res.StatusCode, err))
	}
	return t.answered(res, body)
}

// answered is the outcome of a whole answer.
func (t *try) answered(res *http.Response, body []byte) drive.Outcome {
	if coding := res.Header.Get("Content-Encoding"); coding != "" && len(body) > 0 {
		return t.failed(drive.ReasonText, fmt.Sprintf("the answer of %s, %d, has the encoding %q, which was not asked "+
			"for", t.host, res.StatusCode, clip.Shorten(clip.Sanitize(coding), 50)))
	}
	if !utf8.Valid(body) {
		return t.failed(drive.ReasonText, fmt.Sprintf("the answer of %s, %d, has %d bytes that are no UTF-8 text",
			t.host, res.StatusCode, len(body)))
	}
	headers := make(map[string]string, len(res.Header))
	for name, values := range res.Header {
		headers[strings.ToLower(name)] = t.clean.Text(strings.ToValidUTF8(strings.Join(values, ", "), "\ufffd"))
	}
	return drive.Fetched(t.Step, res.StatusCode, headers, t.clean.Text(string(body)))
}

// unanswered is the outcome of a request that has no whole answer.
func (t *try) unanswered(ctx context.Context, err error) drive.Outcome {
	var refused *errs.Error
	if errors.As(err, &refused) { // an address, or where a redirect leads
		return t.failed(drive.ReasonRefused, t.say(refused))
	}
	sent := t.sent.Load()
	switch {
	case ctx.Err() != nil && (!sent || t.repeatable):
		return drive.Outcome{State: step.Cancelled, Failed: &step.Failure{
			Reason: drive.ReasonCancelled, Message: "the request was cancelled",
		}}
	case ctx.Err() != nil:
		return t.unknown("the request was cancelled when it may have been sent")
	case sent && !t.repeatable:
		return t.unknown(fmt.Sprintf("%s may have had the request: %s", t.host, t.say(err)))
	case t.within.Err() != nil:
		return t.failed(drive.ReasonTimeout, t.host+" did not answer in time")
	case sent:
		return t.failed(drive.ReasonUnanswered, fmt.Sprintf("%s did not answer: %s", t.host, t.say(err)))
	}
	return t.failed(drive.ReasonUnreachable, fmt.Sprintf("%s cannot be reached: %s", t.host, t.say(err)))
}

// say is an error for people, without the URL, which may have been made of anything.
func (t *try) say(err error) string {
	if t.within.Err() != nil {
		return "there was no answer in time"
	}
	return clip.Shorten(clip.Sanitize(t.clean.Text(inner(err).Error())), maxWhy)
}

func (t *try) failed(reason, message string) drive.Outcome {
	return drive.Outcome{State: step.Failed, Failed: &step.Failure{Reason: reason, Message: message}}
}

func (t *try) unknown(message string) drive.Outcome {
	return drive.Outcome{State: step.Unknown, Failed: &step.Failure{Reason: drive.ReasonUnknown, Message: message}}
}
