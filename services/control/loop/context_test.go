package loop

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// shelf is a store of the entries of one session that notes what is read of them.
type shelf struct {
	Store
	entries []session.Entry
	read    []int64
}

func (s *shelf) Entries(_ context.Context, _ string, after int64, limit int) ([]session.Entry, error) {
	rest := s.entries[min(int(after), len(s.entries)):]
	page := slices.Clone(rest[:min(limit, len(rest))])
	for _, e := range page {
		s.read = append(s.read, e.Seq)
	}
	return page, nil
}

func (s *shelf) LastSummary(context.Context, string) (session.Entry, bool, error) {
	for _, e := range slices.Backward(s.entries) {
		if e.Kind == session.Summary {
			return e, true, nil
		}
	}
	return session.Entry{}, false, nil
}

// grow adds turns to the session, the results of which have size bytes.
func (s *shelf) grow(turns, size int) {
	add := func(kind session.Kind, m model.Message) {
		s.entries = append(s.entries, session.Entry{
			Seq: int64(len(s.entries)) + 1, Kind: kind, Message: m, CreatedAt: time.Unix(1, 0).UTC(),
		})
	}
	add(session.Input, model.Message{Role: model.User, Content: []model.Block{{Type: model.TextBlock, Text: "do it"}}})
	for range turns {
		id := fmt.Sprint("call_", len(s.entries))
		add(session.Assistant, model.Message{Role: model.Assistant, Content: []model.Block{
			{Type: model.ToolCallBlock, CallID: id, Tool: "bash", Args: []byte("{}")},
		}})
		add(session.ToolResult, model.Message{Role: model.ToolRole, Content: []model.Block{
			{Type: model.ToolResultBlock, CallID: id, Tool: "bash", Text: strings.Repeat("x", size)},
		}, Keep: len(s.entries) == 6})
	}
}

// sumUp adds a summary to what a conversation and the session have.
func (s *shelf) sumUp(t *testing.T, c *conversation) {
	t.Helper()
	cut, ok := session.Plan(c.live, session.Settings{Window: 30_000}.Budget(0))
	m, said := session.Write(c.live, cut, "## State\nhalf done", "threshold", func(string) bool { return false })
	if !ok || !said {
		t.Fatal("there is nothing to sum up")
	}
	e := session.Entry{Seq: c.head + 1, Kind: session.Summary, Message: m, CreatedAt: time.Unix(2, 0).UTC()}
	s.entries = append(s.entries, e)
	if err := c.add(e); err != nil {
		t.Fatal(err)
	}
}

func catchUp(t *testing.T, s *shelf) *conversation {
	t.Helper()
	c := &conversation{}
	if err := c.catchUp(t.Context(), s, "", int64(len(s.entries))); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatASummaryStandsForIsNeitherReadNorKept(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	s.grow(50, 1_000)
	live := catchUp(t, s)
	whole := live.bytes
	s.sumUp(t, live)
	for range 3 {
		s.grow(50, 1_000)
		if err := live.catchUp(t.Context(), s, "", int64(len(s.entries))); err != nil {
			t.Fatal(err)
		}
		s.sumUp(t, live)
	}
	if live.bytes > whole/2 {
		t.Errorf("%d bytes are kept of a conversation of %d turns, %d were kept of 50", live.bytes, 200, whole)
	}
	s.read = nil
	cold := catchUp(t, s)
	to := cold.live[0].Range().To
	for _, seq := range s.read {
		if seq <= to && !slices.Contains(cold.live[0].Range().Keeps, seq) {
			t.Errorf("entry %d is read, and a summary stands for what is up to %d", seq, to)
		}
	}
	for what, pair := range map[string][2]any{
		"messages": {live.messages, cold.messages}, "digest": {live.digest, cold.digest},
		"bytes":  {live.bytes, cold.bytes},
		"tokens": {live.tokens, cold.tokens}, "head": {live.head, cold.head}, "began": {live.began, cold.began},
		"context": {live.messages, session.Context(s.entries)},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("the %s of who was there and of who came later differ (-there +later):\n%.500s", what, diff)
		}
	}
}
