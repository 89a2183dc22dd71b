// Package approval lets people decide about what agents are about to do.
//
//	rules ──Judge(tool, arguments)──▶ allow | deny | ask
//	                                           │ in the commit that has the model's answer
//	                                           ▼
//	                                  open ──Decide──▶ approved ──▶ the call is dispatched, once
//	                                    │        └───▶ denied   ──▶ the model is told, with the comment
//	                                    ├──its time passes──▶ expired: as the rule says
//	                                    └──the loop ends────▶ withdrawn
//
// An approval is a row. The lane of whoever waits for it may rest meanwhile: a decision is committed together with the
// mail that wakes the lane, so that it reaches whoever owns the lane then. Other work than a tool call may wait for
// approvals too: the row says which lane, and what is asked.
//
// Invariants: an approval is committed before anybody is asked, and before anything of what it is about is done; the
// first decision counts, and is never changed; a decision names the digest of what its approver has seen; the
// platform's clock says what has expired; a condition that cannot be told asks.
package approval

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Failures of this package's operations.
var (
	ErrNotFound      = errs.New(errs.NotFound, "APPROVAL_NOT_FOUND", "no such approval")
	ErrGrantNotFound = errs.New(errs.NotFound, "GRANT_NOT_FOUND", "no such grant")
	// ErrDigest refuses a decision about something else than what is stored.
	ErrDigest = errs.New(errs.FailedPrecondition, "APPROVAL_DIGEST", "the digest is not the one of what waits for a "+
		"decision: read the approval again, and decide about what it says now")
	// ErrDecided refuses a decision that comes second.
	ErrDecided = errs.New(errs.FailedPrecondition, "APPROVAL_DECIDED", "this has been decided already")
	// ErrOther refuses who has asked for it, where the rule wants somebody else.
	ErrOther = errs.New(errs.PermissionDenied, "APPROVAL_OTHER", "the rule wants somebody else to decide")
	// ErrLevel refuses whom the rule does not name.
	ErrLevel = errs.New(errs.PermissionDenied, "APPROVAL_ROLE", "the rule does not let this token decide")
	// ErrDecision refuses a decision that is none.
	ErrDecision = errs.New(errs.InvalidArgument, "APPROVAL_INVALID", "the decision is incomplete")
)

// State of an approval.
type State uint8

// States, as numbered in the database.
const (
	Open State = iota
	Approved
	Denied
	Expired
	Withdrawn
)

// String names the state as events and the API do.
func (s State) String() string {
	return [...]string{"open", "approved", "denied", "expired", "withdrawn"}[s]
}

// Bounds of texts.
const (
	// MaxArguments bounds the arguments that an approval shows, in bytes of JSON; a diff has the same bound.
	MaxArguments = 256 << 10
	// MaxComment bounds a comment, in bytes.
	MaxComment = 2000
)

// Stage is one agent on the way from the submission's own to the one that asks.
type Stage struct {
	Agent       string `json:"agent"`
	Task        string `json:"task,omitempty"`        // the call that it works for, "" of the root
	Description string `json:"description,omitempty"` // of that
}

// Subject is what is to be decided. It never changes.
type Subject struct {
	Call      string          `json:"call"` // id of the tool call
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`     // as they were understood, without secrets
	Cut       bool            `json:"cut,omitempty"` // the arguments, or the diff, are longer than what is here
	Diff      string          `json:"diff,omitempty"`
	Cwd       string          `json:"cwd,omitempty"`
	Path      []Stage         `json:"path"` // from the submission's agent to the one that asks
	Asks      []Ask           `json:"asks"` // the rules that ask, at least one
	// Requesters are those whose inputs the submission works on; none is nobody that is known.
	Requesters []model.Speaker `json:"requesters,omitempty"`
}

// Approval is one row, with a field for each column.
type Approval struct {
	ID        string
	Tenant    string
	LaneID    string // that waits
	SessionID string // the conversation of the loop that asks
	LoopID    string
	Turn      int
	CallID    string
	Key       session.Key // of the session that the lane is of
	RootID    string      // the submission
	Digest    []byte      // of what is to be decided, see Digest
	Subject   Subject
	Timeout   time.Duration // from AskedAt; 0 is none of its own
	State     State
	By        *audit.Who // who has decided
	Comment   string
	Scope     Scope
	Told      bool // the stream has told what became of it
	AskedAt   time.Time
	ExpiresAt time.Time // zero is never
	DecidedAt time.Time
	// Left is how long it was open yet when it was read, and Since how long ago it had been decided then, on the
	// platform's clock.
	Left, Since time.Duration
}

// Allows reports whether what was asked may be done.
func (a *Approval) Allows() bool {
	switch a.State {
	case Approved:
		return true
	case Expired:
		for _, ask := range a.Subject.Asks {
			if ask.Rule.OnTimeout != DoAllow {
				return false
			}
		}
		return true
	}
	return false
}

// Decided reports whether somebody has decided, or the time has passed: it is not withdrawn any more.
func (a *Approval) Decided() bool { return a.State != Open && a.State != Withdrawn }

// Agent is the agent that asks.
func (a *Approval) Agent() string { return a.Subject.Path[len(a.Subject.Path)-1].Agent }

// Note is what the owner of a lane writes about approvals in its commits.
type Note struct {
	ID string
	// Withdraw ends an approval that is open, or withdrawn already. Of another one the step is refused.
	Withdraw bool
}

// Scope is for what a decision counts.
type Scope uint8

// Scopes, as numbered in the database.
const (
	Once    Scope = iota
	Session       // approve also what the same rules ask of the same tool in this session from now on
)

// Decision is what somebody decides.
type Decision struct {
	Tenant, ID string
	Digest     []byte
	Approve    bool
	Comment    string
	Scope      Scope
	By         audit.Who
	// Record is stored in the same transaction. nil is none.
	Record *audit.Event
}

// State is what the decision makes of an approval.
func (d *Decision) State() State {
	if d.Approve {
		return Approved
	}
	return Denied
}

// Same reports whether an approval was decided so, by the same.
func (d *Decision) Same(a *Approval) bool {
	return a.State == d.State() && a.By != nil && a.By.TokenID == d.By.TokenID && a.By.Kind == d.By.Kind &&
		a.By.Name == d.By.Name && a.Comment == d.Comment && a.Scope == d.Scope
}

// Grant allows calls that rules would ask about, in one session.
type Grant struct {
	ID         string
	Tenant     string
	LaneID     string
	Key        session.Key // of the session
	Tool       string
	Rule       string // see Ask.Key
	Said       string // the rule, for people
	ApprovalID string // the decision that it is part of
	By         audit.Who
	CreatedAt  time.Time
	RevokedAt  time.Time // zero is not revoked
	RevokedBy  *audit.Who
}

// Filter selects approvals or grants of a tenant. Empty fields select all.
type Filter struct {
	Tenant         string
	State          *State   // of approvals
	Active         bool     // of grants: those that are not revoked
	SessionID      string   // the session whose lane waits
	Agent          string   // of the session
	Agents         []string // the session's is one of these; nil is any
	InstancePrefix string
	Before         string // those with a smaller id; "" begins with the newest
	Limit          int
}

// Store keeps approvals and grants. Approvals are made, noted and withdrawn by commits, see lane.Step.
type Store interface {
	// GetApproval returns the tenant's approval or ErrNotFound.
	GetApproval(ctx context.Context, tenant, id string) (Approval, error)
	// ListApprovals returns at most f.Limit approvals, newest first by id. next is Before of the next page, "" for
	// none.
	ListApprovals(ctx context.Context, f Filter) (page []Approval, next string, err error)
	// TurnApprovals returns the approvals of the calls of one turn of a loop, in any state.
	TurnApprovals(ctx context.Context, loopID string, turn int) ([]Approval, error)
	// DecideApproval decides an open approval, makes a grant for each of its rules if the scope says so, posts mail for
	// its lane, and stores d.Record, in one transaction. decided is false when it was not open, or when its time had
	// passed: it is expired by then. It returns the approval. ErrNotFound, ErrDigest.
	DecideApproval(ctx context.Context, d Decision) (a Approval, decided bool, err error)
	// ExpireApproval makes an open approval expired if its time has passed, and returns it. ErrNotFound.
	ExpireApproval(ctx context.Context, id string) (Approval, error)
	// LaneGrants returns the grants of a lane that are not revoked.
	LaneGrants(ctx context.Context, laneID string) ([]Grant, error)
	// GetGrant returns the tenant's grant or ErrGrantNotFound.
	GetGrant(ctx context.Context, tenant, id string) (Grant, error)
	// ListGrants returns at most f.Limit grants, newest first by id.
	ListGrants(ctx context.Context, f Filter) (page []Grant, next string, err error)
	// RevokeGrant revokes a grant, unless it is, and returns it. ErrGrantNotFound.
	RevokeGrant(ctx context.Context, tenant, id string, by audit.Who) (Grant, error)
}
