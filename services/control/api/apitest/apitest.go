// Package apitest is a control plane in memory for tests of the surfaces: real services on a store that keeps maps, and
// a worker that plays a script instead of asking a model.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// Script plays a submission that was started: it publishes its events, the last of which settles it.
type Script func(sub submission.Submission, publish func(...event.Event))

// Plane is what surfaces are put on.
type Plane struct {
	Store       *Store
	Agents      *agent.Catalogue
	Events      *event.Service
	Submissions *submission.Service
}

// New makes a Plane that has the built-in agent and the given ones, and whose submissions play script. It ends with the
// test.
func New(t testing.TB, script Script, agents ...agent.Definition) *Plane {
	t.Helper()
	catalogue, err := agent.Load("", func(string) (string, bool) { return "", false }, nil,
		append(agents, agent.Shell())...)
	if err != nil {
		t.Fatal(err)
	}
	store := &Store{sessions: map[string]*log{}, byKey: map[session.Key]string{}}
	p := &Plane{Store: store, Agents: catalogue, Events: event.NewService(store)}
	w := &worker{plane: p, script: script}
	p.Submissions = submission.NewService(store, pins{catalogue}, p.Events, w, w)
	t.Cleanup(w.running.Wait)
	return p
}

// Publish appends events to a session's stream, as the owner of its lane does.
func (p *Plane) Publish(sub submission.Submission, events ...event.Event) {
	p.Events.Publish(sub.Key, p.Store.append(sub, events))
}

// Answer is a script that answers with a text.
func Answer(text string) Script {
	return func(_ submission.Submission, publish func(...event.Event)) {
		publish(event.Event{Type: event.Text, Text: text})
		ref := agent.Shell().Model
		usage := model.Usage{Input: 10, Output: 3}
		publish(event.Event{Type: event.EntryAdded, Entry: &session.Entry{
			Kind: session.Assistant,
			Message: model.Message{
				Role: model.Assistant, Content: []model.Block{{
					Type: model.TextBlock,
					Text: text,
				}}, Model: &ref, Usage: &usage, Stop: model.StopEnd,
			},
		}}, event.Event{Type: event.Settled, Settlement: &event.Settlement{
			Outcome: string(submission.Completed), Model: ref.String(), Usage: usage, EntrySeq: 2, Text: text, Turn: 1,
		}})
	}
}

// Fail is a script that fails.
func Fail(reason, message string) Script {
	return func(_ submission.Submission, publish func(...event.Event)) {
		publish(event.Event{Type: event.Settled, Settlement: &event.Settlement{
			Outcome: string(submission.Failed),
			Reason:  reason, Message: message, Turn: 1,
		}})
	}
}

type pins struct{ catalogue *agent.Catalogue }

// PinAgent implements submission.Agents.
func (p pins) PinAgent(_ context.Context, name string) (submission.Pin, error) {
	d, err := p.catalogue.Get(name)
	if err != nil {
		return submission.Pin{}, err
	}
	return submission.Pin{Digest: d.Digest()}, nil
}

type worker struct {
	plane   *Plane
	script  Script
	running sync.WaitGroup
}

func (w *worker) Reserve() (string, bool) { return "me", true }
func (w *worker) Unreserve()              {}
func (w *worker) Wake()                   {}
func (w *worker) Interrupt(_, _ string)   {}
func (w *worker) Notify(...string)        {}

// Start implements submission.Worker.
func (w *worker) Start(l submission.Lease) {
	w.running.Go(func() {
		w.plane.Publish(l.Submission, event.Event{Type: event.Started, EntrySeq: l.EntryHead})
		if w.script != nil {
			w.script(l.Submission, func(events ...event.Event) { w.plane.Publish(l.Submission, events...) })
		}
	})
}

// Store is a database in memory, without lanes: everything that is admitted runs at once, unless Queue is set.
type Store struct {
	submission.Store // what surfaces do not reach

	mu       sync.Mutex // guards what follows
	sessions map[string]*log
	byKey    map[session.Key]string
	Queue    bool // admissions stay queued
}

type log struct {
	session     session.Session
	entries     []session.Entry
	events      []event.Event
	submissions []submission.Submission
	bases       []int64           // head of the stream when each submission was admitted
	hashes      map[string][]byte // of inputs, by idempotency key
}

// Admit implements submission.Store.
func (s *Store) Admit(_ context.Context, a submission.Admission) (submission.Admitted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.byKey[a.Key]
	if id == "" {
		id = ident.New()
		s.byKey[a.Key] = id
		s.sessions[id] = &log{
			session: session.Session{ID: id, Key: a.Key, CreatedAt: time.Now()},
			hashes:  map[string][]byte{},
		}
	}
	l := s.sessions[id]
	if old, ok := l.hashes[a.IdempotencyKey]; ok && a.IdempotencyKey != "" {
		if !bytes.Equal(old, a.InputHash) {
			return submission.Admitted{}, submission.ErrIdempotencyConflict
		}
		i := slices.IndexFunc(l.submissions, func(x submission.Submission) bool { return x.IdempotencyKey == a.IdempotencyKey })
		return submission.Admitted{Submission: l.submissions[i], Replayed: true, EventHead: l.bases[i]}, nil
	}
	l.hashes[a.IdempotencyKey] = a.InputHash
	sub := submission.Submission{
		ID: a.ID, SessionID: id, Key: a.Key, Seq: int64(len(l.submissions)) +
			1, IdempotencyKey: a.IdempotencyKey, AgentDigest: a.AgentDigest, AcceptedAt: time.Now(),
	}
	got := submission.Admitted{EventHead: int64(len(l.events))}
	if !s.Queue {
		var m model.Message
		if err := json.Unmarshal(a.Input, &m); err != nil {
			return got, err
		}
		sub.Status, sub.StartedAt, sub.Turn = submission.Running, time.Now(), 1
		l.entries = append(l.entries, session.Entry{
			Seq: int64(len(l.entries)) + 1, SubmissionID: sub.ID,
			Kind: session.Input, Message: m, CreatedAt: time.Now(),
		})
		got.Lease = &submission.Lease{Submission: sub, EntryHead: int64(len(l.entries)), EventHead: got.EventHead}
	}
	l.submissions, l.bases = append(l.submissions, sub), append(l.bases, got.EventHead)
	got.Submission = sub
	return got, nil
}

// append numbers events and keeps them in their stored form.
func (s *Store) append(sub submission.Submission, events []event.Event) []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.sessions[sub.SessionID]
	for i := range events {
		e := &events[i]
		e.Seq, e.SubmissionID, e.Turn, e.Time = int64(len(l.events))+1, sub.ID, 1, time.Now()
		if e.Entry != nil {
			e.Entry.Seq, e.Entry.SubmissionID, e.Entry.CreatedAt = int64(len(l.entries))+1, sub.ID, e.Time
			e.EntrySeq = e.Entry.Seq
			l.entries = append(l.entries, *e.Entry)
		}
		kept := *e
		kept.Entry = nil
		if z := e.Settlement; z != nil {
			one := &l.submissions[sub.Seq-1]
			one.Status, one.Outcome, one.Reason, one.Message = submission.SettledStatus, submission.Outcome(z.Outcome), z.Reason, z.Message
			one.Model, one.Usage, one.ResultEntry, one.Turn, one.SettledAt = z.Model, z.Usage, z.EntrySeq, z.Turn, e.Time
			bare := *z
			bare.Text = ""
			kept.Settlement = &bare
		}
		l.events = append(l.events, kept)
	}
	return events
}

// GetSubmission implements submission.Store.
func (s *Store) GetSubmission(ctx context.Context, tenant, id string) (submission.Submission, error) {
	if ctx.Err() != nil { // as every database does
		return submission.Submission{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.sessions {
		for _, sub := range l.submissions {
			if sub.ID == id && sub.Key.Tenant == tenant {
				return sub, nil
			}
		}
	}
	return submission.Submission{}, submission.ErrNotFound
}

// ListSubmissions implements submission.Store.
func (s *Store) ListSubmissions(
	_ context.Context, sessionID string, before int64, limit int,
) ([]submission.Submission, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(s.log(sessionID).submissions),
		func(x submission.Submission) bool { return before != 0 && x.Seq >= before })
	slices.Reverse(list)
	return list[:min(limit, len(list))], nil
}

// RequestAbort implements submission.Store: everything is settled at once.
func (s *Store) RequestAbort(ctx context.Context, tenant, id string) (submission.Submission, error) {
	sub, err := s.GetSubmission(ctx, tenant, id)
	if err != nil || sub.Status == submission.SettledStatus {
		return sub, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.Status, sub.Outcome, sub.Reason, sub.SettledAt, sub.AbortRequested = submission.SettledStatus, submission.Aborted, "ABORTED", time.Now(), true
	s.sessions[sub.SessionID].submissions[sub.Seq-1] = sub
	return sub, nil
}

// RequestAbortSession implements submission.Store.
func (s *Store) RequestAbortSession(
	ctx context.Context, tenant, sessionID string,
) (settled int, running string, err error) {
	list, err := s.ListSubmissions(ctx, sessionID, 0, 1000)
	for _, sub := range list {
		if sub.Status == submission.SettledStatus {
			continue
		}
		settled++
		if _, err := s.RequestAbort(ctx, tenant, sub.ID); err != nil {
			return 0, "", err
		}
	}
	return settled, "", err
}

// FindSession implements session.Store.
func (s *Store) FindSession(_ context.Context, key session.Key) (session.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.byKey[key]
	if !ok {
		return session.Session{}, session.ErrNotFound
	}
	return s.log(id).session, nil
}

// GetSession implements session.Store.
func (s *Store) GetSession(_ context.Context, tenant, id string) (session.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.log(id); l.session.ID != "" && l.session.Key.Tenant == tenant {
		got := l.session
		got.EventHead = int64(len(l.events))
		return got, nil
	}
	return session.Session{}, session.ErrNotFound
}

// ListSessions implements session.Store.
func (s *Store) ListSessions(_ context.Context, f session.Filter) ([]session.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []session.Session
	for _, l := range s.sessions {
		k := l.session.Key
		if k.Tenant == f.Tenant && (f.Agent == "" || k.Agent == f.Agent) &&
			(f.Instance == "" || k.Instance == f.Instance) && (f.BeforeID == "" || l.session.ID < f.BeforeID) {
			list = append(list, l.session)
		}
	}
	slices.SortFunc(list, func(a, b session.Session) int { return -bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	return list[:min(f.Limit, len(list))], nil
}

// Entries implements session.Store.
func (s *Store) Entries(_ context.Context, sessionID string, after int64, limit int) ([]session.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return page(s.log(sessionID).entries, after, limit), nil
}

// Events implements event.Store.
func (s *Store) Events(_ context.Context, sessionID string, after int64, limit int) ([]event.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := page(s.log(sessionID).events, after, limit)
	for i, e := range events {
		if e.Settlement != nil { // the reader fills it in
			z := *e.Settlement
			events[i].Settlement = &z
		}
	}
	return events, nil
}

// EventHeads implements event.Store.
func (s *Store) EventHeads(_ context.Context, ids []string) (map[string]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	heads := map[string]int64{}
	for _, id := range ids {
		heads[id] = int64(len(s.log(id).events))
	}
	return heads, nil
}

// log is a session's log, an empty one for none. The caller holds the lock.
func (s *Store) log(id string) *log {
	if l := s.sessions[id]; l != nil {
		return l
	}
	return &log{}
}

// page is at most limit items after a position; items are numbered from 1.
func page[T any](all []T, after int64, limit int) []T {
	from := min(max(int(after), 0), len(all))
	return slices.Clone(all[from:min(from+limit, len(all))])
}
