package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

var (
	keyDeleting = reads(`SELECT 1 FROM deletions WHERE tenant = $1 AND agent IN ('', $2) AND instance IN ('', $3)
		AND name IN ('', $4) AND done_at IS NULL LIMIT 1`)
	insertSession = writes(`INSERT INTO sessions (session_id, lane_id, tenant, agent, instance, name, executor, labels,
		metadata, forked_from, forked_at, created_at) VALUES ($1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, {now})
		ON CONFLICT DO NOTHING`)
	insertLane = writes(`INSERT INTO lanes (lane_id, tenant, kind, state, due_at, next_seq, pending)
		VALUES ($1, $2, 1, 0, {now}, 1, 0)`)
	insertLabels = writes(`INSERT INTO session_labels (session_id, label, tenant)
		SELECT p.id, w.value, $3 FROM {ids $1} p CROSS JOIN {list $2} w`)
	deleteLabels = writes(`DELETE FROM session_labels WHERE session_id = $1`)
	setContent   = writes(`UPDATE sessions SET labels = $3, metadata = COALESCE($4, metadata)
		WHERE session_id = $1 AND tenant = $2`)
	// holdLane makes a session's owner, admissions and deletions wait. It changes nothing.
	holdLane = writes(`UPDATE lanes SET mail = mail WHERE lane_id = $1 AND tenant = $2 RETURNING pending`)
	// closeLane keeps admissions away that have found the lane before, by a name that leads elsewhere now.
	closeLane = writes(`UPDATE lanes SET closed = true WHERE lane_id = $1 AND tenant = $2`)
	// A fork of a fork shares what that shares, as far as it is not cut off, and then what that has itself.
	shareBases = writes(`INSERT INTO session_bases (session_id, upto, tenant, after, base_id)
		SELECT p.id, CASE WHEN b.upto < $3 THEN b.upto ELSE $3 END, b.tenant, b.after, b.base_id
		FROM {ids $1} p CROSS JOIN session_bases b WHERE b.session_id = $2 AND b.after < $3`)
	shareOwn = writes(`INSERT INTO session_bases (session_id, upto, tenant, after, base_id)
		VALUES ($1, $2, $3, $4, $5)`)
	renameRewound = writes(`UPDATE sessions SET name = $3, rewound_to = $4 WHERE session_id = $1 AND tenant = $2`)
)

// within refuses what is another tenant's: a transaction is the platform's own, so that no row-level security does.
func within(ctx context.Context, tenant string) error {
	if of := tenancy.Of(ctx); of != "" && of != tenant {
		return tenancy.ErrForeign
	}
	return nil
}

// labelsOf are labels as they are stored, in order.
func labelsOf(labels map[string]string) (all texts) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, session.Labelled(key, labels[key]))
	}
	return all
}

// CreateSession implements session.Store.
func (t *Tables) CreateSession(ctx context.Context, n session.New) (s session.Session, created bool, err error) {
	if err := within(ctx, n.Key.Tenant); err != nil {
		return s, false, err
	}
	id := ident.New()
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) (err error) {
		if err = mayMake(ctx, p, n.Key); err == nil {
			created, err = addSession(ctx, p, session.Session{
				ID: id, Key: n.Key, Labels: n.Labels, Metadata: n.Metadata,
			})
		}
		if err != nil {
			return err
		}
		s, err = t.byKey(ctx, p, n.Key)
		if err == nil && s.ID != id && !n.Same(s) {
			err = session.ErrExists.With("there is a session of this name already, with other labels or other " +
				"metadata: use that, or change what it has")
		}
		created = created || s.ID == id // by an earlier try
		return err
	})
	return s, created, wrap("create a session", err)
}

func (t *Tables) byKey(ctx context.Context, p Port, k session.Key) (session.Session, error) {
	return one(ctx, p, t.session, session.ErrNotFound, findSession, k.Tenant, k.Agent, k.Instance, k.Name)
}

// mayMake refuses a session whose name is being deleted.
func mayMake(ctx context.Context, p Port, k session.Key) error {
	found, err := p.Query(ctx, keyDeleting, k.Tenant, k.Agent, k.Instance, k.Name)
	if err == nil && len(found) > 0 {
		err = session.ErrDeleting
	}
	return err
}

// addSession makes a session at rest, unless there is one of its name, or it was made by an earlier try.
func addSession(ctx context.Context, p Port, s session.Session) (made bool, err error) {
	labels, err := jsonOr(s.Labels, len(s.Labels) == 0)
	if err != nil {
		return false, err
	}
	k := s.Key
	n, err := p.Exec(ctx, insertSession, s.ID, k.Tenant, k.Agent, k.Instance, k.Name, s.Executor, labels,
		optional(string(s.Metadata)), optional(s.ForkedFrom), s.ForkedAt)
	if err != nil || n == 0 {
		return false, err
	}
	if _, err := p.Exec(ctx, insertLane, s.ID, k.Tenant); err != nil {
		return false, err
	}
	return true, label(ctx, p, s.ID, k.Tenant, s.Labels)
}

func label(ctx context.Context, p Port, id, tenant string, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	_, err := p.Exec(ctx, insertLabels, texts{id}.json(), labelsOf(labels).json(), tenant)
	return err
}

// UpdateSession implements session.Store.
func (t *Tables) UpdateSession(
	ctx context.Context, tenant, id string, c session.Change,
) (s session.Session, err error) {
	if err := within(ctx, tenant); err != nil {
		return s, err
	}
	if !ident.IsUUID(id) {
		return s, session.ErrNotFound
	}
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		if s, err = one(ctx, p, t.session, session.ErrNotFound, getSession, id, tenant); err != nil {
			return err
		}
		// The lane's lock makes those that change labels at the same time wait, and the second look sees what they did.
		if _, err := p.Query(ctx, holdLane, s.LaneID, tenant); err != nil {
			return err
		}
		if s, err = one(ctx, p, t.session, session.ErrNotFound, getSession, id, tenant); err != nil {
			return err
		}
		if s.Labels, err = c.Apply(s.Labels); err != nil {
			return err
		}
		if c.Metadata != nil {
			s.Metadata = c.Metadata
		}
		labels, err := json.Marshal(s.Labels)
		if err != nil {
			return err
		}
		if _, err := p.Exec(ctx, setContent, id, tenant, string(labels), optional(string(c.Metadata))); err != nil {
			return err
		}
		if _, err := p.Exec(ctx, deleteLabels, id); err != nil {
			return err
		}
		return label(ctx, p, id, tenant, s.Labels)
	})
	return s, wrap("update a session", err)
}

// ForkSession implements session.Store.
func (t *Tables) ForkSession(ctx context.Context, f session.Fork) (s session.Session, err error) {
	if err := within(ctx, f.Key.Tenant); err != nil {
		return s, err
	}
	if !ident.IsUUID(f.From) {
		return s, session.ErrNotFound
	}
	id := ident.New()
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		s, err = t.fork(ctx, p, f, id)
		return err
	})
	return s, wrap("fork a session", err)
}

// fork holds the lane of the session that is forked: it is not deleted meanwhile, and does not begin to run.
func (t *Tables) fork(
	ctx context.Context, p Port, f session.Fork, id string,
) (s session.Session, err error) {
	held, err := p.Query(ctx, holdLane, f.From, f.Key.Tenant)
	if err != nil {
		return s, err
	}
	from, err := one(ctx, p, t.session, session.ErrNotFound, getSession, f.From, f.Key.Tenant)
	switch {
	case err != nil:
		return s, err
	case len(held) == 0: // its rows are going
		return s, session.ErrNotFound
	case f.Rewinds && from.RewoundTo != "":
		return t.rewound(ctx, p, f, from)
	case f.Rewinds && held[0].int(0) > 0:
		return s, session.ErrBusy
	case f.Rewinds:
		f.New = session.New{Key: from.Key, Labels: from.Labels, Metadata: from.Metadata}
		if _, err := p.Exec(ctx, renameRewound, f.From, f.Key.Tenant, session.Rewound(f.From), id); err != nil {
			return s, err
		}
		if _, err := p.Exec(ctx, closeLane, f.From, f.Key.Tenant); err != nil {
			return s, err
		}
	}
	if err := mayMake(ctx, p, f.Key); err != nil {
		return s, err
	}
	made, err := addSession(ctx, p, session.Session{
		ID: id, Key: f.Key, Labels: f.Labels, Metadata: f.Metadata, Executor: from.Executor, ForkedFrom: f.From,
		ForkedAt: f.At,
	})
	if err == nil && made && f.At > 0 {
		err = share(ctx, p, f, id, from)
	}
	if err != nil {
		return s, err
	}
	s, err = t.byKey(ctx, p, f.Key)
	if err == nil && !made && (s.ForkedFrom != f.From || s.ForkedAt != f.At && !f.Whole || !f.Same(s)) {
		err = session.ErrExists
	}
	return s, err
}

// share makes the entries of the session that is forked, and what that shares, the fork's, too.
func share(ctx context.Context, p Port, f session.Fork, id string, from session.Session) error {
	n, err := p.Exec(ctx, shareBases, texts{id}.json(), f.From, f.At)
	switch {
	case err != nil:
		return err
	case n >= session.MaxBases:
		return session.ErrForkTooDeep
	case f.At > from.ForkedAt:
		_, err = p.Exec(ctx, shareOwn, id, f.At, f.Key.Tenant, from.ForkedAt, f.From)
	}
	return err
}

// rewound answers for a session that was rewound before, as asked for or otherwise.
func (t *Tables) rewound(
	ctx context.Context, p Port, f session.Fork, from session.Session,
) (session.Session, error) {
	s, err := one(ctx, p, t.session, session.ErrRewound, getSession, from.RewoundTo, f.Key.Tenant)
	if err == nil && s.ForkedAt != f.At {
		err = session.ErrRewound
	}
	if err != nil {
		return session.Session{}, fmt.Errorf("rewinding session %s: %w", f.From, err)
	}
	return s, nil
}
