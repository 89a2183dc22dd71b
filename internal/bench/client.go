package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// counter counts what connections receive.
type counter struct{ received atomic.Int64 }

type countedConn struct {
	net.Conn
	c *counter
}

// Read implements net.Conn.
func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.c.received.Add(int64(n))
	return n, err
}

func (c *counter) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return countedConn{conn, c}, nil
}

// dialCounted connects to a control plane and counts.
func (p *plane) dialCounted(c *counter) (*grpc.ClientConn, error) {
	return p.Dial(grpc.WithContextDialer(c.dial))
}

// web prompts over HTTP.
type web struct {
	client *http.Client
	url    string
	token  string
	*counter
}

// newWeb is a client of p whose connections are kept.
func newWeb(p *plane, clients int) (*web, error) {
	token, err := p.Token()
	c := &counter{}
	return &web{
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: clients,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn,
				error,
			) {
				return c.dial(ctx, addr)
			},
		}},
		url: "http://" + p.HTTP + "/agents/", token: token, counter: c,
	}, err
}

func (w *web) close() { w.client.CloseIdleConnections() }

// post prompts an agent's instance and gives the answer's body, which must be a success.
func (w *web) post(ctx context.Context, path, message, accept string) (body io.ReadCloser, err error) {
	in, err := json.Marshal(map[string]string{"message": message})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, strings.NewReader(string(in)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", accept)
	req.Header.Set("Authorization", "Bearer "+w.token)
	res, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return nil, errors.Join(fmt.Errorf("%s: %s", res.Status, said), res.Body.Close())
	}
	return res.Body, nil
}

// prompt prompts and gives the answer's text.
func (w *web) prompt(ctx context.Context, path, message string) (string, error) {
	body, err := w.post(ctx, path, message, "application/json")
	if err != nil {
		return "", err
	}
	var out struct{ Result struct{ Text string } }
	err = json.NewDecoder(body).Decode(&out)
	return out.Result.Text, errors.Join(err, body.Close())
}

// stream prompts and reads the events to their end.
func (w *web) stream(ctx context.Context, path, message string) error {
	body, err := w.post(ctx, path, message, "text/event-stream")
	if err != nil {
		return err
	}
	said := &tail{}
	_, err = io.Copy(said, body)
	if err == nil && !strings.Contains(string(said.last), `"type":"idle"`) {
		err = fmt.Errorf("the stream ends with %q", said.last)
	}
	return errors.Join(err, body.Close())
}

// tail keeps the end of what is written.
type tail struct{ last []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const keep = 1 << 10
	t.last = append(t.last, p[max(0, len(p)-keep):]...)
	if len(t.last) > keep {
		t.last = append(t.last[:0], t.last[len(t.last)-keep:]...)
	}
	return len(p), nil
}

// followed is what a prompt's events told.
type followed struct {
	entries []time.Time     // of assistant entries
	calls   []time.Duration // from a call's dispatch to its outcome
	settled *pawlv1.Submission
}

// follow prompts over gRPC and reads the events to their end.
func follow(ctx context.Context, conn *grpc.ClientConn, key *pawlv1.SessionKey, message string) (followed, error) {
	var f followed
	stream, err := pawlv1.NewSubmissionServiceClient(conn).Prompt(ctx, &pawlv1.PromptRequest{
		Key:     key,
		Message: message,
	})
	if err != nil {
		return f, err
	}
	begun := map[string]time.Time{}
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, err
		}
		for _, e := range got.GetEvents() {
			at := e.GetTime().AsTime()
			switch v := e.GetEvent().(type) {
			case *pawlv1.Event_Entry:
				if v.Entry.GetEntry().GetKind() == "assistant" {
					f.entries = append(f.entries, at)
				}
			case *pawlv1.Event_ToolStarted:
				begun[v.ToolStarted.GetCallId()] = at
			case *pawlv1.Event_ToolFinished:
				f.calls = append(f.calls, at.Sub(begun[v.ToolFinished.GetCallId()]))
			case *pawlv1.Event_Settled:
				f.settled = v.Settled.GetSubmission()
			}
		}
	}
	if f.settled.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED {
		return f, fmt.Errorf("the prompt settled %v: %v", f.settled.GetOutcome(), f.settled.GetError())
	}
	return f, nil
}
