// Package session holds conversations: append-only lists of entries that submissions add to.
//
//	input ─▶ (workspace|skill)* ─▶ (assistant ─▶ tool_result*)* ─▶ assistant    one submission; the next one begins
//	                                                            └▶ marker       with its own input. If it got no answer
//	                                                                            the marker says so, and why
//
// A summary may come between any two of these but between a call and its result. It stands for a range of entries, and
// says what the summaries before it said: Context is the last one and what comes after its range. Entries stay.
//
//	1 … 40 │ 41 … 44  summary{1–40}  45 … 90 │ 91 … 97  summary{41–90}  98 …       Context: summary{41–90} 91 … 98 …
//
// Invariants: seqs of entries are dense from 1; an entry never changes; only the owner of the session's lane appends;
// ranges of summaries follow each other without a gap. A sub-agent's conversation is a session of its own in the lane
// of the session that it works for.
package session

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
)

// DefaultTenant always exists. What names no tenant is its own.
const DefaultTenant = "default"

// DefaultName is the session that a prompt without a name goes to.
const DefaultName = "default"

// ErrNotFound says that there is no such session for this caller.
var ErrNotFound = errs.New(errs.NotFound, "SESSION_NOT_FOUND", "no such session")

// ErrNoInstance says that there is no session of such an instance for this caller, or that it may have none.
var ErrNoInstance = errs.New(errs.NotFound, "INSTANCE_NOT_FOUND", "no such instance")

// ErrDeleting refuses a prompt to a session that is being deleted, see package deletion.
var ErrDeleting = errs.New(errs.FailedPrecondition, "SESSION_BEING_DELETED", "the session is being deleted; its name "+
	"can be used again once that is done")

// Key identifies a session to callers.
type Key struct {
	Tenant   string
	Agent    string
	Instance string
	Name     string
}

// Session is one conversation, with a field for each thing that is known of it.
type Session struct {
	ID         string // UUIDv7, new when a session is deleted and made again
	LaneID     string // of the lane that it is in: its own id, or for a sub-agent's conversation that of its root
	ParentID   string // of a sub-agent's conversation: the one whose loop asked for it
	ParentCall string // and the call that did
	Key        Key
	CreatedAt  time.Time
	EntryHead  int64 // seq of the last entry, 0 for none
	EventHead  int64 // seq of the last event, 0 for none
	Pending    int   // submissions that wait or run
	Executor   string
	Labels     map[string]string
	Metadata   json.RawMessage // a JSON object, nil for none
	ForkedFrom string          // of a fork: the session that it was made from, which may be gone
	ForkedAt   int64           // the last entry that it shares with that
	RewoundTo  string          // the session that has taken its name
}

// Kind of an entry.
type Kind string

// Kinds of entry.
const (
	Input      Kind = "input"
	Assistant  Kind = "assistant"
	ToolResult Kind = "tool_result"
	Summary    Kind = "summary"   // stands for entries before it, see model.Summary
	Workspace  Kind = "workspace" // told beside the input before it: what was found in the workspace, see Join
	Skill      Kind = "skill"     // told beside the input before it: the skill that the caller starts with
	Marker     Kind = "marker"    // told to the model in its own voice, because neither it nor a caller said it
)

// Entry is one durable item of a session.
type Entry struct {
	Seq          int64         `json:"seq"`
	SubmissionID string        `json:"submission_id"`
	Kind         Kind          `json:"kind"`
	Message      model.Message `json:"message"`
	CreatedAt    time.Time     `json:"created_at"`
	// Unreadable is why the stored message cannot be decoded, an UnreadableError; nil when it can. Message says so to
	// readers then; what it was nobody knows, so no model may be asked to go on from it.
	Unreadable error `json:"-"`
	// Images are stored with the entry, whose message names them: see Detach. Entries that are read have none.
	Images []Image `json:"-"`
	// Body is Message as it is stored; nil before Encode.
	Body json.RawMessage `json:"-"`
}

// Encode returns Body. It is made once.
func (e *Entry) Encode() (json.RawMessage, error) {
	if e.Body == nil {
		body, err := json.Marshal(e.Message)
		if err != nil {
			return nil, fmt.Errorf("encoding entry %d: %w", e.Seq, err)
		}
		e.Body = body
	}
	return e.Body, nil
}

// Text is what the entry says, of a result of a tool what the model is told.
func (e *Entry) Text() string {
	if e.Kind != ToolResult {
		return e.Message.Text()
	}
	var texts []string
	for _, b := range e.Message.Content {
		texts = append(texts, b.Text)
	}
	return strings.Join(texts, "\n")
}

// UnreadableError is an entry whose message cannot be decoded.
type UnreadableError struct {
	Seq int64
	Err error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("entry %d cannot be decoded: %v", e.Seq, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// Filter selects sessions for List.
type Filter struct {
	Tenant   string
	Agent    string // "" is any
	Instance string // "" is any
	// InstancePrefix is what the ids of instances begin with.
	InstancePrefix string
	Limit          int
	BeforeID       string // sessions that were made before this one; "" starts with the newest
	ParentID       string // the conversations of sub-agents of this one; "" leaves out those of all sub-agents
	Labels         map[string]string
}

// Store keeps sessions. They are made here, or by the admission of their first prompt, and extended by commits, see
// package submission.
type Store interface {
	// CreateSession makes a session. One that is there with the same labels and metadata is returned as it is, with
	// created unset. ErrExists, ErrDeleting.
	CreateSession(ctx context.Context, n New) (s Session, created bool, err error)
	// UpdateSession changes labels and metadata of the tenant's session. ErrNotFound, ErrLabels.
	UpdateSession(ctx context.Context, tenant, id string, c Change) (Session, error)
	// ForkSession makes a session that shares the entries of another one, see Fork. ErrNotFound, ErrExists, ErrBusy,
	// ErrDeleting, ErrForkTooDeep, ErrRewound.
	ForkSession(ctx context.Context, f Fork) (Session, error)
	// FindSession returns the session with the key, or ErrNotFound.
	FindSession(ctx context.Context, key Key) (Session, error)
	// GetSession returns the tenant's session with the id, or ErrNotFound.
	GetSession(ctx context.Context, tenant, id string) (Session, error)
	// ListSessions returns at most f.Limit sessions, newest first by id.
	ListSessions(ctx context.Context, f Filter) ([]Session, error)
	// Entries returns at most limit entries with seq > after, in order. One that cannot be decoded is among them, see
	// Entry.Unreadable.
	Entries(ctx context.Context, sessionID string, after int64, limit int) ([]Entry, error)
	// LastSummary returns the session's last entry of kind Summary; ok is false when there is none.
	LastSummary(ctx context.Context, sessionID string) (e Entry, ok bool, err error)
	// Image returns an image that an entry of the session names, its own or one that it shares, or ErrNoImage.
	Image(ctx context.Context, sessionID, sha256 string) ([]byte, error)
	// Rebind moves the workspace of the tenant's session to another executor by hand and posts mail for its lane, whose
	// owner looks where it is then. Calls that run go on where they are. ErrNotFound.
	Rebind(ctx context.Context, tenant, id, executor string) (Session, error)
}
