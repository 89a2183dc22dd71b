package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// seen is an event as the first reader saw it.
type seen struct {
	digest [sha256.Size]byte
	text   string
	told   bool // that somebody saw something else
	delta  bool // of a sub-agent: who does not want those does not get it
}

// stream is what readers have seen of one session.
type stream struct {
	session string

	mu     sync.Mutex // guards what follows
	id     string
	events map[int64]seen
	holes  map[int64]bool // what a reader that wants no deltas of sub-agents was not sent
	faults []string
}

func newStream(session string) *stream {
	return &stream{session: session, events: map[int64]seen{}, holes: map[int64]bool{}}
}

// take compares an event with what others saw at its place.
func (s *stream) take(reader int, e *pawlv1.Event) error {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return err
	}
	now := seen{
		digest: sha256.Sum256(body), text: prototext.MarshalOptions{}.Format(e),
		delta: e.GetTask() != nil && (e.GetText() != nil || e.GetThinking() != nil || e.GetToolOutput() != nil),
	}
	now.text = now.text[:min(len(now.text), 4000)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(now.text, unreadable) {
		if reader >= readers {
			s.fault("%s: event %d cannot be read although nothing is spoilt any more", s.session, e.GetSeq())
		}
		return nil // as long as its entry is spoilt
	}
	before, known := s.events[e.GetSeq()]
	if !known {
		s.events[e.GetSeq()] = now
	} else if before.digest != now.digest && !before.told {
		before.told = true
		s.events[e.GetSeq()] = before
		a, b := differ(now.text, before.text)
		s.fault("%s: event %d is %s to reader %d, and %s to another", s.session, e.GetSeq(), a, reader, b)
	}
	return nil
}

// unreadable is what a reader is told in place of an entry that cannot be decoded.
const unreadable = "[what was here cannot be read from the database]"

// differ cuts two texts to where they begin to differ.
func differ(a, b string) (string, string) {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	cut := func(s string) string { return "…" + s[max(0, min(i-80, len(s))):min(len(s), i+80)] + "…" }
	return cut(a), cut(b)
}

// fault notes what no reader may see. The caller holds mu.
func (s *stream) fault(format string, args ...any) {
	if len(s.faults) < 20 {
		s.faults = append(s.faults, fmt.Sprintf(format, args...))
	}
}

// find learns the session's id.
func (s *stream) find(ctx context.Context, at *replica) string {
	s.mu.Lock()
	id := s.id
	s.mu.Unlock()
	if id != "" {
		return id
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	got, err := pawlv1.NewSessionServiceClient(at.conn).GetSession(ctx, &pawlv1.GetSessionRequest{
		Session: &pawlv1.GetSessionRequest_Key{Key: &pawlv1.SessionKey{
			Agent: agentOf(s.session), Instance: instanceName,
			Session: s.session,
		}},
	})
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = got.GetSession().GetSessionId()
	return s.id
}

// read reads the stream like one reader that goes and comes back at any time, at any replica, until ctx ends.
func (s *stream) read(ctx context.Context, c *cluster, reader int, r *rand.Rand) {
	cursor := int64(0)
	for ctx.Err() == nil {
		at := c.any(r)
		if id := s.find(ctx, at); id != "" {
			if r.IntN(5) == 0 {
				cursor = r.Int64N(cursor + 1) // it has forgotten where it was
			}
			visit, cancel := context.WithTimeout(ctx, between(r, 100*time.Millisecond, 8*time.Second))
			s.watch(visit, at, reader, id, &cursor, math.MaxInt64)
			cancel()
		}
		wait(ctx, between(r, 0, 200*time.Millisecond))
	}
}

// wants is what a reader is sent of sub-agents. The first one of a session does without their deltas.
func wants(reader int) pawlv1.ChildEvents {
	if reader == 0 {
		return pawlv1.ChildEvents_CHILD_EVENTS_ENTRIES
	}
	return pawlv1.ChildEvents_CHILD_EVENTS_ALL
}

// mayMiss notes that a reader goes on at seq after the cursor; false when it has to be sent all of them.
func (s *stream) mayMiss(reader int, cursor, seq int64) bool {
	if seq <= cursor || wants(reader) == pawlv1.ChildEvents_CHILD_EVENTS_ALL {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := cursor + 1; n < seq; n++ {
		s.holes[n] = true
	}
	return true
}

// watch reads from the cursor on for as long as the connection lasts, at most to the event upto.
func (s *stream) watch(ctx context.Context, at *replica, reader int, id string, cursor *int64, upto int64) {
	w, err := pawlv1.NewSessionServiceClient(at.conn).WatchSession(ctx,
		&pawlv1.WatchSessionRequest{SessionId: id, After: *cursor, Children: wants(reader)})
	for err == nil && *cursor < upto {
		var m *pawlv1.WatchSessionResponse
		if m, err = w.Recv(); err != nil {
			return
		}
		for _, e := range m.GetEvents() {
			if e.GetSeq() != *cursor+1 && !s.mayMiss(reader, *cursor, e.GetSeq()) {
				s.mu.Lock()
				s.fault("%s: reader %d at %s gets event %d after %d", s.session, reader, at.name, e.GetSeq(), *cursor)
				s.mu.Unlock()
			}
			*cursor = e.GetSeq()
			if err := s.take(reader, e); err != nil {
				return
			}
		}
	}
}

// complete reads the whole stream at each replica, once nothing happens any more.
func (s *stream) complete(ctx context.Context, c *cluster, head int64) {
	for i, at := range c.replicas {
		cursor := int64(0)
		for cursor < head && ctx.Err() == nil {
			if id := s.find(ctx, at); id != "" {
				visit, cancel := context.WithCancel(ctx)
				s.watch(visit, at, readers+i, id, &cursor, head)
				cancel()
			}
		}
		if cursor != head {
			s.mu.Lock()
			s.fault("%s: at %s the stream ends at %d, not %d", s.session, at.name, cursor, head)
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.holes {
		if e, known := s.events[n]; known && !e.delta {
			s.fault("%s: a reader was not sent event %d: %s", s.session, n, e.text[:min(len(e.text), 160)])
		}
	}
}

func secret(file string) (string, error) {
	b, err := os.ReadFile(file)
	return strings.TrimSpace(string(b)), err
}
