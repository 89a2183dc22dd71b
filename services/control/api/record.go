package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// recording is what the audit log is to know of a call. A call that may change something has its record reserved before
// its handler runs, and is answered when that is stored; so is a call that is refused. A nil recording records nothing.
type recording struct {
	trail   *audit.Log
	changes bool

	mu      sync.Mutex // guards what follows
	event   audit.Event
	record  *audit.Record // nil until it is reserved
	refused bool
}

type recordingKey struct{}

// whoOf is a principal as the audit log has it.
func whoOf(p auth.Principal) audit.Who {
	return audit.Who{
		TokenID: p.TokenID, Kind: string(p.Kind), Role: string(p.Role), Name: p.Name, Source: p.Source,
	}
}

// record begins to record a call of a method. Fails with audit.ErrAway.
func record(ctx context.Context, trail *audit.Log, p auth.Principal, method string) (context.Context, error) {
	rule, ok := auth.RuleOf(method)
	if trail == nil || !ok || rule.Open() || p.Kind == auth.Peer {
		return ctx, nil
	}
	r := &recording{trail: trail, changes: rule.Changes, event: refusal(p, method)}
	if r.changes {
		var err error
		if r.record, err = trail.Reserve(); err != nil {
			return ctx, err
		}
	}
	return context.WithValue(ctx, recordingKey{}, r), nil
}

// refusal is the event of a call that is refused, as long as nobody says that it is allowed.
func refusal(p auth.Principal, method string) audit.Event {
	rule, _ := auth.RuleOf(method)
	return audit.Event{
		Tenant: p.Tenant, Who: whoOf(p), Verb: string(rule.Verb), Method: strings.TrimPrefix(method, "/"),
	}
}

func recordingOf(ctx context.Context) *recording {
	r, _ := ctx.Value(recordingKey{}).(*recording)
	return r
}

// hear notes what the first message of a call names.
func hear(ctx context.Context, m any) {
	r := recordingOf(ctx)
	msg, ok := m.(proto.Message)
	if r == nil || !ok {
		return
	}
	resource, onBehalfOf := namedIn(msg.ProtoReflect())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.Resource, r.event.Who.OnBehalfOf = resource, onBehalfOf
}

// names adds to what a call is on record with what its first message does not name, such as what it has made. What is
// added stands before the rest, whose values callers choose.
func names(ctx context.Context, facts string) {
	r := recordingOf(ctx)
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.Resource = strings.TrimSpace(facts + " " + r.event.Resource)
}

// naming are the fields whose texts name something.
var naming = []protoreflect.Name{
	"agent", "instance", "session_id", "submission_id", "deletion_id", "executor_id", "token_id", "approval_id",
	"grant_id", "tenant", "tenant_id", "workflow", "run_id", "signal",
	"name", "path",
}

// namedIn is what a message names, as name=value, and its on_behalf_of.
func namedIn(m protoreflect.Message) (resource, onBehalfOf string) {
	var parts []string
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() || f.IsMap():
		case f.Name() == "on_behalf_of":
			onBehalfOf = v.String()
		case f.Kind() == protoreflect.StringKind && slices.Contains(naming, f.Name()):
			parts = append(parts, string(f.Name())+"="+v.String())
		case f.Message() == nil:
		case f.Message().FullName() == (&pawlv1.SessionKey{}).ProtoReflect().Descriptor().FullName():
			parts = append(parts, "session="+keyText(v.Message()))
		case f.Name() == "target", f.Name() == "start":
			inner, _ := namedIn(v.Message())
			parts = append(parts, inner)
		}
		return true
	})
	slices.Sort(parts)
	return strings.Join(parts, " "), onBehalfOf
}

func keyText(m protoreflect.Message) string {
	var parts []string
	for _, name := range []protoreflect.Name{"agent", "instance", "session"} {
		if s := m.Get(m.Descriptor().Fields().ByName(name)).String(); s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "/")
}

// allowed says that a call is allowed. It returns the record of that, which the transaction that the call makes may
// store; nil is none.
func allowed(ctx context.Context) *audit.Record {
	r := recordingOf(ctx)
	if r == nil || r.record == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.Allowed = true
	r.record.Fill(r.event)
	return r.record
}

// onRecord returns when it is stored that a call is allowed.
func onRecord(ctx context.Context) error {
	r := recordingOf(ctx)
	if r == nil || r.record == nil {
		return nil
	}
	r.mu.Lock()
	event := r.event
	r.mu.Unlock()
	r.record.Write(event)
	return r.record.Wait(ctx)
}

// refuse notes that the handler has found its call forbidden.
func refuse(ctx context.Context) {
	if r := recordingOf(ctx); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused = true
	}
}

// unableFor is how long a call that could not be carried out for now waits for its record. Its answer says what to do
// about that, so that it must not wait for that to be done.
const unableFor = time.Second

// ended records how a call ended, before it is answered.
func ended(ctx context.Context, err error) error {
	r := recordingOf(ctx)
	if r == nil {
		return err
	}
	r.mu.Lock()
	refused := err != nil && (r.refused || errors.Is(err, auth.ErrForbidden))
	if r.record == nil && refused {
		var away error
		if r.record, away = r.trail.Reserve(); away != nil {
			r.mu.Unlock()
			return away
		}
	}
	if r.event.Allowed = !refused; err != nil {
		r.event.Reason = reasonOf(err)
	}
	record, event := r.record, r.event
	r.mu.Unlock()
	if record == nil {
		return err
	}
	record.Write(event)
	unable := errs.Temporary(err) // as a rule because of the database, which takes no record then
	if unable {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, unableFor)
		defer stop()
	}
	if away := record.Wait(ctx); away != nil && !unable {
		return away
	}
	return err
}

// leave gives back what a call has reserved that never ended: its handler has panicked. That it was allowed is
// recorded.
func leave(ctx context.Context) {
	if r := recordingOf(ctx); r != nil && r.record != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.event.Allowed, r.event.Reason = !r.refused, "INTERNAL"
		r.record.Write(r.event)
	}
}

func reasonOf(err error) string {
	if e, ok := errs.Public(err); ok {
		return e.Reason()
	}
	return "INTERNAL"
}
