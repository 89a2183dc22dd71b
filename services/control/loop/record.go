package loop

import (
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

// prefix is what all requests of a loop begin with: the system text and the tools.
type prefix struct {
	system string
	tools  []model.Tool
	digest [sha256.Size]byte
	body   []byte
}

func newPrefix(req model.Request) *prefix {
	body, err := json.Marshal(struct {
		System string       `json:"system"`
		Tools  []model.Tool `json:"tools"`
	}{req.System, req.Tools})
	if err != nil {
		panic(err) // schemas were checked when their tools were defined
	}
	return &prefix{system: req.System, tools: req.Tools, digest: sha256.Sum256(body), body: body}
}

// storeAgain is how often the text of a prefix that is in use is stored, should it have been deleted.
const storeAgain = time.Hour

// prefixes makes each prefix once, and knows which are stored.
type prefixes struct {
	mu     sync.Mutex // guards what follows
	recent []*prefix  // the last used first
	stored map[[sha256.Size]byte]time.Time
}

const (
	// maxPrefixes bounds what is remembered; what is forgotten is stored again.
	maxPrefixes = 1024
	// maxRecent bounds the texts that are kept. Agents have few.
	maxRecent = 32
)

func newPrefixes() *prefixes { return &prefixes{stored: map[[sha256.Size]byte]time.Time{}} }

// of is the prefix of a request.
func (s *prefixes) of(req model.Request) *prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.recent {
		if p.system == req.System && model.SameTools(p.tools, req.Tools) {
			copy(s.recent[1:i+1], s.recent[:i])
			s.recent[0] = p
			return p
		}
	}
	p := newPrefix(req)
	s.recent = append([]*prefix{p}, s.recent[:min(len(s.recent), maxRecent-1)]...)
	return p
}

// missing is the text of a prefix if it has to be stored, nil otherwise.
func (s *prefixes) missing(p *prefix) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.stored[p.digest]; ok && time.Since(at) < storeAgain {
		return nil
	}
	return p.body
}

// keep notes that prefixes were stored.
func (s *prefixes) keep(t *lane.Turn) {
	if t == nil || t.PrefixBody == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stored) >= maxPrefixes {
		clear(s.stored)
	}
	s.stored[[sha256.Size]byte(t.Prefix)] = time.Now()
}

// record is what is kept of a model call.
func (l *loop) record(req model.Request, a answer, failed string) *lane.Turn {
	return l.recordOf(asked{by: l.model(), of: l.conversation.digest[:]}, req, a, failed)
}

// asked says which model was asked, what for, and about what.
type asked struct {
	by      model.Ref
	purpose string
	of      []byte // digest of the messages
}

func (l *loop) recordOf(c asked, req model.Request, a answer, failed string) *lane.Turn {
	p := l.tree.prefixes.of(req)
	digest := sha256.New()
	digest.Write(p.digest[:])
	digest.Write(c.of)
	digest.Write([]byte(c.by.String() + "\n" + string(req.Thinking)))
	t := &lane.Turn{
		Turn: l.row.Turn, Model: c.by.String(), Request: digest.Sum(nil), Prefix: p.digest[:], Purpose: c.purpose,
		PrefixBody: l.tree.prefixes.missing(p), Attempts: a.attempts, FirstToken: a.first,
		Duration: time.Since(a.begun), Stop: string(a.message.Stop), Error: failed,
	}
	if a.message.Usage != nil {
		t.Usage = *a.message.Usage
	}
	return t
}
