package submission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// MaxMessage is the longest input in bytes.
const MaxMessage = 16 << 20

// ErrMessageEmpty refuses an input that says nothing.
var ErrMessageEmpty = errs.New(errs.InvalidArgument, "MESSAGE_EMPTY", "").WithFacts(map[string]string{
	"field": "message",
}, "message must not be blank: say what the agent is to do")

// ErrMessageTooLarge refuses an input.
var ErrMessageTooLarge = errs.New(errs.InvalidArgument, "MESSAGE_TOO_LARGE", "the message is longer than 16 MiB")

// Pin is the agent definition that a submission is admitted with.
type Pin struct {
	Digest  string
	Timeout time.Duration
}

// Agents pins definitions.
type Agents interface {
	// PinAgent stores the present definition of an agent of the tenant and returns its pin. Fails with the agent
	// package's ErrNotFound.
	PinAgent(ctx context.Context, tenant, name string) (Pin, error)
}

// Worker runs leases in this process.
type Worker interface {
	// Reserve takes a slot for a lease that an admission may get. ok is false when there is none; else exactly one of
	// Start and Unreserve must follow.
	Reserve() (owner string, ok bool)
	Unreserve()
	// Start runs a lease in the reserved slot.
	Start(lane.Lease)
}

// Reader is the reads that a Service needs beside Store.
type Reader interface {
	Store
	Entries(ctx context.Context, sessionID string, after int64, limit int) ([]session.Entry, error)
}

// Service admits input and follows it to its end.
type Service struct {
	store  Reader
	agents Agents
	events *event.Service
	worker Worker
	bus    *wake.Bus
}

// NewService makes a Service.
func NewService(store Reader, agents Agents, events *event.Service, worker Worker, bus *wake.Bus) *Service {
	return &Service{store: store, agents: agents, events: events, worker: worker, bus: bus}
}

// Input is what a client asks for.
type Input struct {
	Key            session.Key  // Name "" is the default session
	SessionID      string       // the session that is meant, whatever its name is by now; "" is the one that Key names
	Message        string       // it may be blank if there is an image
	Images         [][]byte     // that belong to the message: PNG, JPEG, GIF or WebP
	Files          []string     // paths in the workspace that the message refers to
	Options        lane.Options // what is asked for beside the message
	WhenBusy       WhenBusy
	IdempotencyKey string
	By             *model.Speaker // who asks; nil is nobody that is known
	Wakes          string         // a lane that rests on the end of the submission; "" is none
	ToEnd          bool           // Prompt follows for the end only: the deltas of answers may be left out
	Record         *audit.Record  // nil is none. It is stored with the admission, but not of a replay or with an error
	MayBeBlank     bool           // the message may, as Flue's protocol has it
}

// Submit admits an input; it is durable when Submit returns. Errors: the agent's, ErrIdempotencyConflict, INVALID_NAME,
// ErrMessageEmpty, ErrMessageTooLarge, ErrImages, ErrFiles and result.ErrSchema; with a SessionID session.ErrNotFound
// and session.ErrRewound.
func (s *Service) Submit(ctx context.Context, in Input) (Admitted, error) {
	adm, err := s.admission(ctx, &in)
	if err != nil {
		return Admitted{}, err
	}
	return s.admit(ctx, adm, in)
}

func (s *Service) admission(ctx context.Context, in *Input) (Admission, error) {
	if in.Key.Tenant == "" {
		in.Key.Tenant = session.DefaultTenant
	}
	if in.Key.Name == "" {
		in.Key.Name = session.DefaultName
	}
	if err := in.checkNames(); err != nil {
		return Admission{}, err
	}
	pin, noPin := s.agents.PinAgent(ctx, in.Key.Tenant, in.Key.Agent)
	if noPin != nil && in.IdempotencyKey == "" {
		return Admission{}, noPin
	}
	if err := in.check(); err != nil {
		return Admission{}, err
	}
	// What begins at once has the same bytes as what a later owner reads: a model's prompt begins with some of them.
	text, err := in.Options.Encode()
	if err == nil {
		in.Options, err = lane.DecodeOptions(text)
	}
	if err != nil {
		return Admission{}, err
	}
	said, err := in.message(ctx)
	if err != nil {
		return Admission{}, err
	}
	said, images := session.Detach(said)
	body, err := json.Marshal(said)
	if err != nil {
		return Admission{}, fmt.Errorf("encoding the input: %w", err)
	}
	hash, err := in.hash()
	if err != nil {
		return Admission{}, err
	}
	adm := Admission{
		ID: ident.New(), Key: in.Key, SessionID: in.SessionID, Input: body, InputHash: hash,
		IdempotencyKey: in.IdempotencyKey, AgentDigest: pin.Digest, Timeout: pin.Timeout, Options: in.Options,
		WhenBusy: in.WhenBusy, Images: images, Wakes: in.Wakes,
	}
	if e := in.Record.Event(); e != nil {
		of := *e
		of.Resource = "submission_id=" + adm.ID + " " + of.Resource
		adm.Record = &of
	}
	if noPin == nil {
		return adm, nil
	}
	// What was accepted while the agent was there goes on, and whoever asks again is told so.
	adm.ReplayOnly = true
	if _, err := s.store.Admit(ctx, adm); errors.Is(err, ErrNotFound) {
		return Admission{}, noPin
	} else if err != nil {
		return Admission{}, fmt.Errorf("looking for an earlier admission: %w", err)
	}
	return adm, nil
}

func (s *Service) admit(ctx context.Context, adm Admission, in Input) (Admitted, error) {
	// An accepted input must not depend on a client that leaves between commit and start.
	ctx = context.WithoutCancel(ctx)
	var reserved bool
	if !adm.Options.Compact { // what a start commits is an input entry, which a summary has not
		adm.Owner, reserved = s.worker.Reserve()
	}
	var got Admitted
	err := contain.Do(func() (err error) { got, err = s.store.Admit(ctx, adm); return err })
	if reserved && (err != nil || got.Lease == nil) {
		s.worker.Unreserve()
	}
	if err != nil {
		return Admitted{}, fmt.Errorf("admitting: %w", err)
	}
	if adm.Record != nil && !got.Replayed {
		in.Record.Stored()
	}
	if got.Submission.AskedBy = in.By; got.Replayed {
		if got.Submission, err = s.replayed(ctx, got.Submission); err != nil {
			return Admitted{}, err
		}
	}
	switch {
	case got.Lease != nil:
		got.Lease.Loops[0].Input = adm.Input // what was just committed need not be read
		s.worker.Start(*got.Lease)
	case !got.Replayed && got.Submission.WhenBusy != Queue:
		s.told(got.Submission.SessionID)
	case !got.Replayed:
		s.bus.PublishReady()
	}
	return got, nil
}

// ReasonDeleted says that nothing is known of a submission but that it has settled.
const ReasonDeleted = "SESSION_DELETED"

// replayed is a submission as it is told to whoever asks for it again.
func (s *Service) replayed(ctx context.Context, sub Submission) (Submission, error) {
	if sub.SessionID == "" {
		sub.Reason, sub.Message = ReasonDeleted,
			"the session was deleted, and with it what became of this submission: use another key to submit it anew"
		return sub, nil
	}
	return s.Fill(ctx, sub)
}

// Prompt is Submit and the submission's events in one: nothing of it is missed and, in the common case, nothing is read
// back from the database. Close it. The events end after the one that settles the submission.
func (s *Service) Prompt(ctx context.Context, in Input) (*Following, error) {
	adm, err := s.admission(ctx, &in)
	if err != nil {
		return nil, err
	}
	var sub *event.Subscription
	if in.ToEnd {
		sub = s.events.SubscribeToEnd(adm.Key)
	} else {
		sub = s.events.Subscribe(adm.Key, event.Want{})
	}
	got, err := s.admit(ctx, adm, in)
	if err != nil {
		sub.Close()
		return nil, err
	}
	return &Following{
		Submission: got.Submission, Replayed: got.Replayed, Before: got.EventHead, service: s, sub: sub, after: got.EventHead,
		fresh: got.Lease != nil,
	}, nil
}

// Get reads a submission with what Fill adds.
func (s *Service) Get(ctx context.Context, tenant, id string) (Submission, error) {
	sub, err := s.store.GetSubmission(ctx, tenant, id)
	if err != nil {
		return Submission{}, err
	}
	return s.Fill(ctx, sub)
}

// Fill adds to a submission of the store what entries say of it: who asked for it, and the text of its answer.
func (s *Service) Fill(ctx context.Context, sub Submission) (Submission, error) {
	sub, err := s.askedBy(ctx, sub)
	if err != nil || sub.ResultEntry == 0 {
		return sub, err
	}
	entries, err := s.store.Entries(ctx, sub.SessionID, sub.ResultEntry-1, 1)
	if err != nil {
		return sub, fmt.Errorf("reading the answer: %w", err)
	}
	if len(entries) == 1 {
		sub.Text = entries[0].Text()
	}
	return sub, nil
}

// askedBy adds who asked for a submission: its input says so, which is an entry once it has begun.
func (s *Service) askedBy(ctx context.Context, sub Submission) (Submission, error) {
	input, err := s.InputOf(ctx, sub)
	sub.AskedBy = input.From
	return sub, err
}

// InputOf is what was submitted: an entry once it has begun. What cannot be read says nothing, and is reported by
// whoever runs it.
func (s *Service) InputOf(ctx context.Context, sub Submission) (input model.Message, err error) {
	if sub.InputEntry == 0 && sub.Status == Queued && len(sub.Input) == 0 { // it is from a list
		one, err := s.store.GetSubmission(ctx, sub.Key.Tenant, sub.ID)
		if errors.Is(err, ErrNotFound) {
			return input, nil
		}
		if err != nil {
			return input, fmt.Errorf("reading the input: %w", err)
		}
		sub = one // which may have begun
	}
	if sub.InputEntry == 0 {
		if len(sub.Input) == 0 || json.Unmarshal(sub.Input, &input) != nil {
			return model.Message{}, nil
		}
		return input, nil
	}
	entries, err := s.store.Entries(ctx, sub.SessionID, sub.InputEntry-1, 1)
	if err != nil {
		return input, fmt.Errorf("reading the input: %w", err)
	}
	if len(entries) == 1 && entries[0].Seq == sub.InputEntry {
		input = entries[0].Message
	}
	return input, nil
}

// Forever is a limit for Wait that never passes.
const Forever = time.Duration(math.MaxInt64)

// Wait returns the submission once it has settled, or as it is when the limit has passed; at once when the limit is not
// above 0. It fails with ctx's error when ctx ends before: the end of a caller's own deadline is no answer. It holds no
// state: any replica can wait for any submission.
func (s *Service) Wait(ctx context.Context, tenant, id string, limit time.Duration) (Submission, error) {
	sub, err := s.Get(ctx, tenant, id)
	if err != nil || sub.Status == SettledStatus || limit <= 0 {
		return sub, err
	}
	begun := time.Now()
	waiter := s.events.Waiter(sub.SessionID, id)
	defer waiter.Close()
	for {
		sub, err := s.Get(ctx, tenant, id)
		left := limit - time.Since(begun)
		if err != nil || sub.Status == SettledStatus || left <= 0 {
			return sub, err
		}
		if err := waiter.Wait(ctx, sub.Status != Queued, left); err != nil {
			return Submission{}, err
		}
	}
}

// Abort asks that a submission end and returns it as it is now. A queued one is settled at once; a running one settles
// through its owner, wherever that is. ErrJoined refuses one that has joined another.
func (s *Service) Abort(ctx context.Context, tenant, id string) (Submission, error) {
	sub, err := s.store.RequestAbort(ctx, tenant, id)
	if err != nil {
		return Submission{}, err
	}
	if sub.Status == Joined {
		return Submission{}, ErrJoined.With("the submission is part of submission %s by now: abort that", sub.Host)
	}
	s.told(sub.SessionID)
	return s.Fill(ctx, sub)
}

// AbortSession does so with every submission of a session that has not settled. It returns how many queued ones it
// settled and the running one, nil for none.
func (s *Service) AbortSession(
	ctx context.Context, tenant, sessionID string,
) (settled int, running *Submission, err error) {
	settled, id, err := s.store.RequestAbortSession(ctx, tenant, sessionID)
	if err != nil {
		return 0, nil, err
	}
	s.told(sessionID)
	if id == "" {
		return settled, nil, nil
	}
	sub, err := s.Get(ctx, tenant, id)
	return settled, &sub, err
}

// told tells everybody whom mail of a lane concerns.
func (s *Service) told(sessionID string) {
	s.bus.Publish(wake.Lane(sessionID))
	s.bus.Announce(sessionID)
	s.bus.PublishReady() // a lane that was parked is due now
}

// checkNames checks what the caller has chosen. A session that is found by its id may have a name that nobody chose.
func (in *Input) checkNames() error {
	if in.SessionID == "" {
		for _, err := range []error{
			ident.CheckAgent(in.Key.Agent), ident.CheckInstance(in.Key.Instance), ident.CheckSession(in.Key.Name),
		} {
			if err != nil {
				return err
			}
		}
	}
	if in.IdempotencyKey == "" {
		return nil
	}
	return ident.CheckIdempotencyKey(in.IdempotencyKey)
}
