package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
)

// surfaces measures a prompt over /v1 beside the same over gRPC, in turns.
func surfaces(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	client, err := newWeb(p, 1)
	if err != nil {
		return err
	}
	defer client.close()
	client.url = "http://" + p.HTTP + "/v1/agents/"
	overHTTP := func(ctx context.Context, _ int) error {
		return client.lines(ctx, "shell/instances/"+ident.New()+":prompt", "say: hi")
	}
	overGRPC := func(ctx context.Context, _ int) error {
		key := &pawlv1.SessionKey{Agent: "shell", Instance: ident.New(), Session: "default"}
		_, err := follow(ctx, p.conn, key, "say: hi")
		return err
	}
	var times [2][]time.Duration
	for range r.some(10, 2) {
		for i, do := range []func(context.Context, int) error{overGRPC, overHTTP} {
			f, err := load(ctx, 1, r.some(200, 20), 0, do)
			if err != nil {
				return err
			}
			times[i] = append(times[i], f.times...)
		}
	}
	r.add(timed(Row{
		What: "prompt, no model, over /v1, beside gRPC", Floor: took(quantile(times[0], 0.5)), Goal: most(Over, 0.3e-3),
	}, times[1]))
	return nil
}

// lines prompts and reads the lines of the answer to their end.
func (w *web) lines(ctx context.Context, path, message string) error {
	body, err := w.post(ctx, path, message, "application/x-ndjson")
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // read to its end
	in, last := json.NewDecoder(body), ""
	for in.More() {
		var line json.RawMessage
		if err := in.Decode(&line); err != nil {
			return err
		}
		last = string(line)
	}
	if !strings.Contains(last, "OUTCOME_COMPLETED") {
		return fmt.Errorf("the last line is %.200q", last)
	}
	return nil
}

// websockets measures what an idle socket costs, and how long frames take on many sockets that stream.
func websockets(ctx context.Context, r *run) error {
	p, err := r.plane(ctx)
	if err != nil {
		return err
	}
	before, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	n := r.some(1000, 100)
	if _, err := load(ctx, 8, n, 0, func(ctx context.Context, _ int) error {
		_, err := r.socket(ctx, p)
		return err
	}); err != nil {
		return err
	}
	after, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	r.add(Row{What: "RSS per idle WebSocket", P50: bytes((after - before) / int64(n)), Goal: most(P50, 16<<10)})
	return r.streaming(ctx, p, r.some(200, 20))
}

// socket opens a socket for operations, which is read by whoever wants to until the run ends.
func (r *run) socket(ctx context.Context, p *plane) (*websocket.Conn, error) {
	token, err := p.Token()
	if err != nil {
		return nil, err
	}
	conn, _, err := websocket.Dial(ctx, "http://"+p.HTTP+"/v1/watch", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	r.atEnd(func() error { _ = conn.CloseNow(); return nil })
	return conn, nil
}

// streaming measures how old the events of a command's output are when they arrive on n sockets.
func (r *run) streaming(ctx context.Context, p *plane, n int) error {
	key := &pawlv1.SessionKey{Agent: "shell", Instance: "loud", Session: "default"}
	first, err := follow(ctx, p.conn, key, "true")
	if err != nil {
		return err
	}
	id := first.settled.GetSessionId()
	var mu sync.Mutex
	var ages []time.Duration
	var watching sync.WaitGroup
	failed := make(chan error, n)
	for range n {
		conn, err := r.socket(ctx, p)
		if err != nil {
			return err
		}
		ask := fmt.Sprintf(`{"id":"w","call":"watchSession","request":{"sessionId":%q}}`, id)
		if err := conn.Write(ctx, websocket.MessageText, []byte(ask)); err != nil {
			return err
		}
		watching.Go(func() {
			got, err := agesOf(ctx, conn)
			mu.Lock()
			defer mu.Unlock()
			ages = append(ages, got...)
			failed <- err
		})
	}
	if _, err := follow(ctx, p.conn, key, "for i in $(seq 200); do echo line $i; sleep 0.02; done"); err != nil {
		return err
	}
	watching.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	r.add(timed(Row{What: fmt.Sprintf("frame on %d WebSockets that stream, from its event's time", n)}, ages))
	return nil
}

// agesOf reads a watch until the second submission has settled, and gives the age of each piece of output.
func agesOf(ctx context.Context, conn *websocket.Conn) (ages []time.Duration, err error) {
	for settled := 0; settled < 2; {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		var frame struct {
			Message struct {
				Events []struct {
					Time                time.Time
					ToolOutput, Settled json.RawMessage
				}
			}
			Error json.RawMessage
		}
		if err := json.Unmarshal(text, &frame); err != nil || frame.Error != nil {
			return nil, fmt.Errorf("heard %.200q: %w", text, err)
		}
		for _, e := range frame.Message.Events {
			if e.ToolOutput != nil {
				ages = append(ages, now.Sub(e.Time))
			}
			if e.Settled != nil {
				settled++
			}
		}
	}
	return ages, nil
}
