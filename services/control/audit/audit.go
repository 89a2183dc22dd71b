// Package audit is the record of who did what, to what, from where, with which token, allowed or refused.
//
//	Reserve ─┬▶ Record.Write ──▶ queue ──▶ AppendAudit, again and again ──▶ Record.Wait returns: the caller is answered
//	         └▶ Record.Fill ──▶ the transaction of what it records ──▶ Record.Stored
//
// A prompt's record is part of the transaction that admits it, and costs no commit of its own. Where that stores
// nothing, the record goes the other way.
//
// Invariants: what has to be on record is answered only when it is. Where there is no room for a record, as in a long
// outage of the database, what would need one is refused before anything is changed. A record whose write failed stays
// in the queue until it is written, or until the process ends: nobody was told then that the change was made.
package audit

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrAway refuses what could not be put on record.
var ErrAway = errs.New(errs.Unavailable, "AUDIT_UNAVAILABLE", "what was asked for has to be put on record first, and "+
	"that is not possible now; try again")

// Who is somebody who does something.
type Who struct {
	TokenID    string `json:"token_id,omitempty"` // "" when no stored token is behind it
	Kind       string `json:"kind"`
	Role       string `json:"role,omitempty"`
	Name       string `json:"name,omitempty"` // of the token
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
	Source     string `json:"source,omitempty"` // the address of the host; "" is within the process
}

// Event is one record.
type Event struct {
	ID       string // UUIDv7
	Tenant   string
	At       time.Time // when it was stored, on the database's clock
	Who      Who
	Verb     string // see package auth
	Method   string // the RPC, or the route as "METHOD /path"
	Resource string // what the request named
	Allowed  bool
	Reason   string // why it was refused, or failed all the same
}

// Filter selects events. Zero values select all.
type Filter struct {
	Tenant, TokenID, Verb string
	From, To              time.Time // when they were stored: not before From, before To
	BeforeID              string    // those before this one; "" begins with the newest
	Limit                 int
}

// Store keeps events. They are never changed, and deleted by retention only.
type Store interface {
	// AppendAudit stores events. One whose id is there already is left as it is.
	AppendAudit(ctx context.Context, events []Event) error
	// ListAudit returns at most f.Limit events, newest first by id. next is BeforeID of the next page, "" for none. A
	// page lacks the events that cannot be decoded.
	ListAudit(ctx context.Context, f Filter) (page []Event, next string, err error)
}
