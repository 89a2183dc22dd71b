package platformtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
)

// talker is a model that answers in a number of pieces.
type talker struct {
	model.Model // of which API, Ref and Window are used
	pieces      int
	pause       time.Duration
}

func (m talker) Stream(ctx context.Context, _ model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		for range m.pieces {
			if m.pause > 0 {
				time.Sleep(m.pause)
			}
			if ctx.Err() != nil || !yield(model.Part{Type: model.PartText, Text: "word"}, nil) {
				return
			}
		}
		whole := model.Block{Type: model.TextBlock, Text: strings.Repeat("word", m.pieces)}
		if yield(model.Part{Type: model.PartBlock, Block: whole}, nil) {
			yield(model.Part{Type: model.PartFinish, Stop: model.StopEnd}, nil)
		}
	}
}

type talkers struct {
	pieces int
	pause  time.Duration
}

// Model implements loop.Models.
func (t talkers) Model(model.Ref) (model.Model, error) {
	return talker{offline.New(), t.pieces, t.pause}, nil
}

// postAs sends a prompt over HTTP.
func postAs(p *platformtest.Platform, path, accept, message string) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodPost, "http://localhost"+path, strings.NewReader(fmt.Sprintf(`{"message":%q}`,
		message)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+p.Token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", accept)
	return p.HTTP.Do(r)
}

// Whoever listens gets the deltas one by one, as the model says them. For who waits for the answer only, none is
// stored.
func TestDeltasOneByOne(t *testing.T) {
	for _, pause := range []time.Duration{0, 7 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			const pieces = 500
			w := &world{T: t}
			w.c = platformtest.New(t, platformtest.Options{Models: talkers{pieces, pause}})
			w.a = w.c.Start("a", nil)
			res, err := postAs(w.a, "/agents/shell/i?verbose=1", "text/event-stream", "talk")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if n := strings.Count(string(body), "event: text_delta\n"); n != pieces || err != nil {
				t.Errorf("%d deltas, %v", n, err)
			}
			if !strings.Contains(string(body), `"input":{"systemPrompt":`) || !strings.Contains(string(body),
				`"messages":[{"role":"user","content":[{"type":"text","text":"talk"}]}]`) {
				t.Error("what the model was asked with is not shown")
			}
			res, err = postAs(w.a, "/agents/shell/quiet", "application/json", "talk")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			for _, e := range w.events(res.Header.Get("Pawl-Session")) {
				if e.Type == event.Text && (pause == 0 || len(e.Pieces) > 0) {
					t.Errorf("nobody watched: %+v", e)
				}
			}
		})
	}
}

// The second prompt of a session shows the first, and who does not ask is shown nothing.
func TestInputIsShown(t *testing.T) {
	within(t, func(w *world) {
		for i, path := range []string{"/agents/shell/i?verbose=1", "/agents/shell/i", "/agents/shell/i?verbose=1"} {
			res, err := postAs(w.a, path, "text/event-stream", fmt.Sprintf("say: %d", i))
			if err != nil {
				w.Fatal(err)
			}
			lines := bufio.NewScanner(res.Body)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				data, ok := strings.CutPrefix(lines.Text(), "data: ")
				if !ok || !strings.Contains(data, `"type":"turn_request"`) {
					continue
				}
				var got struct {
					Input *struct {
						SystemPrompt string `json:"systemPrompt"`
						Messages     []any  `json:"messages"`
						Tools        []any  `json:"tools"`
					} `json:"input"`
				}
				if err := json.Unmarshal([]byte(data), &got); err != nil {
					w.Fatal(err)
				}
				want := 2*i + 1
				if i == 1 && got.Input != nil || i != 1 && (got.Input == nil || len(got.Input.Messages) != want ||
					len(got.Input.Tools) == 0 ||
					!strings.Contains(got.Input.SystemPrompt, "Date: Saturday, 1 January 2000")) {
					w.Errorf("prompt %d: %s", i, data)
				}
			}
			_ = res.Body.Close()
		}
	})
}

// messagesOf are the first words of the messages that each request of a prompt is shown to have.
func messagesOf(w *world, path, message string) (shown [][]string) {
	w.Helper()
	res, err := postAs(w.a, path, "text/event-stream", message)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || !strings.Contains(data, `"type":"turn_request"`) {
			continue
		}
		var got struct {
			Input struct {
				Messages []struct {
					Role    string
					Content []struct{ Text string }
				}
			}
		}
		if err := json.Unmarshal([]byte(data), &got); err != nil {
			w.Fatal(err)
		}
		var all []string
		for _, m := range got.Input.Messages {
			first := m.Role
			if len(m.Content) > 0 {
				first += ": " + m.Content[0].Text[:min(21, len(m.Content[0].Text))]
			}
			all = append(all, strings.TrimSpace(first))
		}
		shown = append(shown, all)
	}
	return shown
}

// What is shown of a request after a summary is what is sent: the summary, and what comes after its range.
func TestInputIsShownAfterASummary(t *testing.T) {
	within(t, func(w *world) {
		w.wait(w.a, w.submitTo(w.a, "narrow", long), "word")
		const path = "/agents/narrow/i?verbose=1"
		shown := messagesOf(w, path, leaf("one", 1))
		if len(shown) != 3 || len(shown[0]) != 3 || !strings.HasPrefix(shown[0][0], "user: say: word") {
			w.Fatalf("shown %q", shown)
		}
		left := 0
		for _, e := range w.events(w.sessionID("narrow")) {
			if e.Type == event.CompactionFinished {
				left = e.Compaction.MessagesNow
			}
		}
		for i, one := range shown[1:] {
			if len(one) != left+2*i || !strings.HasPrefix(one[0], "user: <conversation_summary") ||
				one[left-1] != "user: sleep 1s;add effects" {
				w.Errorf("request %d after the summary, which left %d messages, is shown as %q", i+1, left, one)
			}
		}
		w.summaries("narrow", 1)
		// The next prompt begins with what the summary left.
		if shown = messagesOf(w, path, "say: next"); len(shown) != 1 || len(shown[0]) != left+4 ||
			!strings.HasPrefix(shown[0][0], "user: <conversation_summary") {
			w.Errorf("the next prompt is shown as %q", shown)
		}
	})
}

// BenchmarkStream is the whole path of a delta but for the network: the run, its commits, the hub, the events of a
// stream.
func BenchmarkStream(b *testing.B) {
	const pieces = 5000
	c := platformtest.New(b, platformtest.Options{
		Models: talkers{pieces: pieces},
		Agents: []agent.Definition{agent.Shell()},
	})
	p := c.Start("a", nil)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		res, err := postAs(p, fmt.Sprint("/agents/shell/", n), "text/event-stream", "talk")
		if err != nil {
			b.Fatal(err)
		}
		n++
		got, err := io.Copy(io.Discard, res.Body)
		if err != nil || got < pieces {
			b.Fatal(got, err)
		}
		_ = res.Body.Close()
	}
	b.ReportMetric(float64(b.N)*pieces/b.Elapsed().Seconds(), "deltas/s")
}
