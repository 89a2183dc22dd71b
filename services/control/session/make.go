package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/model"
)

const (
	// MaxLabels is how many labels a session may have.
	MaxLabels = 16
	// MaxMetadata is how long the metadata of a session may be, in bytes of JSON.
	MaxMetadata = 16 << 10
	// MaxBases is how many sessions a fork may share entries with.
	MaxBases = 1000
	// boundaryPage is how many entries are read at once to find where a conversation can be cut.
	boundaryPage = 100
)

// Failures of what makes and changes sessions.
var (
	ErrExists = errs.New(errs.AlreadyExists, "SESSION_EXISTS",
		"there is a session of this name already, and it is another one")
	ErrLabels = errs.New(errs.InvalidArgument, "TOO_MANY_LABELS", "a session has at most 16 labels")
	// ErrMetadata refuses metadata.
	ErrMetadata = errs.New(errs.InvalidArgument, "METADATA_TOO_LARGE", "metadata has at most 16 KiB of JSON")
	// ErrBusy refuses what needs a session at rest.
	ErrBusy = errs.New(errs.FailedPrecondition, "SESSION_BUSY",
		"the session has submissions that have not settled: wait for them, or abort them first")
	// ErrCut refuses a cut where there is no entry.
	ErrCut = errs.New(errs.InvalidArgument, "NO_SUCH_ENTRY", "the session has no such entry")
	// ErrForkTooDeep refuses a fork.
	ErrForkTooDeep = errs.New(errs.FailedPrecondition, "FORK_TOO_DEEP",
		"the session is a fork of a fork, a thousand times over: begin a new session with what is worth keeping of it")
	// ErrRewound refuses what needs the name that a session has lost.
	ErrRewound = errs.New(errs.FailedPrecondition, "SESSION_REWOUND",
		"the session was rewound, and has lost its name: GetSession says which session has taken it")
	// ErrOfSubAgent refuses to fork the conversation of a sub-agent.
	ErrOfSubAgent = errs.New(errs.FailedPrecondition, "SUB_AGENT_SESSION",
		"the conversation of a sub-agent cannot be forked: fork the session that it works for")
)

// New is a session to make.
type New struct {
	Key      Key
	Labels   map[string]string
	Metadata json.RawMessage
}

// Change is what to change of a session.
type Change struct {
	Set      map[string]string // labels to add or to change
	Remove   []string          // keys of labels
	Metadata json.RawMessage   // nil leaves it as it is
}

// Apply is the labels after the change.
func (c Change) Apply(labels map[string]string) (map[string]string, error) {
	after := maps.Clone(labels)
	if after == nil {
		after = map[string]string{}
	}
	for _, key := range c.Remove {
		delete(after, key)
	}
	maps.Copy(after, c.Set)
	if len(after) > MaxLabels {
		return nil, ErrLabels
	}
	return after, nil
}

// Fork is a session to make that shares the entries of another one, up to At.
type Fork struct {
	New
	From string // the id of the other one
	At   int64
	// Whole is that At is where the other one ends by now: one that was made where it ended before is the same fork.
	Whole bool
	// Rewinds is that the fork takes the name of the other one, which has to be at rest, with its labels and metadata.
	// The other one has the name Rewound(From) then. Of New, only Key.Tenant counts.
	Rewinds bool
}

// Rewound is the name of a session that has lost its own to a fork of it.
func Rewound(id string) string { return rewoundPrefix + id }

const rewoundPrefix = ident.RewoundPrefix

// Labelled is a label as it is stored.
func Labelled(key, value string) string { return key + "=" + value }

// Same reports whether a session is what New asks for.
func (n New) Same(s Session) bool {
	return maps.Equal(n.Labels, s.Labels) && bytes.Equal(n.Metadata, s.Metadata)
}

// Service makes, changes and forks sessions.
type Service struct{ store Store }

// NewService makes a Service.
func NewService(store Store) *Service { return &Service{store: store} }

// Create makes a session. Errors: INVALID_NAME, ErrLabels, ErrMetadata, and those of Store.
func (s *Service) Create(ctx context.Context, n New) (made Session, created bool, err error) {
	if n.Key.Name == "" {
		n.Key.Name = DefaultName
	}
	if err := n.check(); err != nil {
		return Session{}, false, err
	}
	return s.store.CreateSession(ctx, n)
}

func (n New) check() error {
	if err := ident.CheckAgent(n.Key.Agent); err != nil {
		return err
	}
	if err := ident.CheckInstance(n.Key.Instance); err != nil {
		return err
	}
	if err := ident.CheckSession(n.Key.Name); err != nil {
		return err
	}
	return checkContent(n.Labels, n.Metadata)
}

func checkContent(labels map[string]string, metadata json.RawMessage) error {
	if len(labels) > MaxLabels {
		return ErrLabels
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if err := ident.CheckLabel(key, labels[key]); err != nil {
			return err
		}
	}
	if len(metadata) > MaxMetadata {
		return ErrMetadata
	}
	return nil
}

// CheckFilter refuses labels that no session can have. Databases may fail at them. Errors: INVALID_NAME, ErrLabels.
func CheckFilter(f Filter) error { return checkContent(f.Labels, nil) }

// Update changes a session. Errors: INVALID_NAME, ErrMetadata, and those of Store.
func (s *Service) Update(ctx context.Context, tenant, id string, c Change) (Session, error) {
	if err := checkContent(c.Set, c.Metadata); err != nil {
		return Session{}, err
	}
	return s.store.UpdateSession(ctx, tenant, id, c)
}

// Fork makes a fork. A cut of 0 is the last entry, unless the fork rewinds. moved says that the cut had to be moved
// back, see Boundary. Errors: INVALID_NAME, ErrLabels, ErrMetadata, ErrCut, ErrOfSubAgent, and those of Store.
func (s *Service) Fork(ctx context.Context, f Fork) (made Session, moved bool, err error) {
	from, err := s.store.GetSession(ctx, f.Key.Tenant, f.From)
	if err != nil {
		return made, false, err
	}
	if from.ParentID != "" {
		return made, false, ErrOfSubAgent
	}
	if f.At == 0 && !f.Rewinds {
		f.At, f.Whole = from.EntryHead, true
	}
	switch {
	case from.EntryHead == 0 && f.At != 0:
		return made, false, ErrCut.With("the session has no entry %d: it has none yet", f.At)
	case f.At < 0 || f.At > from.EntryHead:
		return made, false, ErrCut.With("the session has no entry %d: its entries are 1 to %d", f.At, from.EntryHead)
	}
	if !f.Rewinds {
		f.Key.Agent = from.Key.Agent
		if f.Key.Instance == "" {
			f.Key.Instance = from.Key.Instance
		}
		if err := f.check(); err != nil {
			return made, false, err
		}
	}
	asked := f.At
	if f.At, err = s.boundary(ctx, f.From, f.At); err != nil {
		return made, false, err
	}
	made, err = s.store.ForkSession(ctx, f)
	return made, made.ForkedAt != asked, err
}

// boundary is where a session can be cut, at an entry or before it.
func (s *Service) boundary(ctx context.Context, id string, at int64) (int64, error) {
	var tail []Entry
	for first := at; ; {
		before := max(first-boundaryPage, 0)
		page, err := s.store.Entries(ctx, id, before, int(first-before))
		if err != nil {
			return 0, fmt.Errorf("reading where to cut: %w", err)
		}
		tail = append(page, tail...)
		if cut, known := Boundary(tail, before); known || before == 0 {
			return cut, nil
		}
		first = before
	}
}

// Boundary is the last place at which a conversation can be cut, of its entries after before up to the place that is
// asked for: the seq of the last entry that stays. It is never between an answer and the results of the calls that it
// asks for, nor after an input that has no answer. known is false if that depends on earlier entries.
func Boundary(tail []Entry, before int64) (cut int64, known bool) {
	n := len(tail)
	for n > 0 {
		if k := tail[n-1].Kind; k == Input || k.Beside() { // nobody has answered it
			n--
			continue
		}
		answer := n - 1
		for answer >= 0 && tail[answer].Kind == ToolResult {
			answer--
		}
		if answer < 0 {
			return before, false
		}
		if calls(tail[answer]) <= n-1-answer {
			return tail[n-1].Seq, true
		}
		n = answer
	}
	return before, before == 0
}

// calls is how many calls an entry asks for.
func calls(e Entry) (n int) {
	if e.Kind != Assistant {
		return 0
	}
	for _, b := range e.Message.Content {
		if b.Type == model.ToolCallBlock {
			n++
		}
	}
	return n
}

// IsRewound reports whether a name is one of Rewound.
func IsRewound(name string) bool { return strings.HasPrefix(name, rewoundPrefix) }
