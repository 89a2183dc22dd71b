package rows

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
)

// sessionColumns are of a conversation. Of those of sub-agents the lane counts nothing that is queued, and where their
// workspace is says the session that they work for.
const (
	sessionSelect = `SELECT k.session_id, k.tenant, k.agent, k.instance, k.name, k.created_at, k.lane_id,
		k.parent_id, k.parent_call, COALESCE((SELECT e.seq FROM entries e WHERE e.session_id = k.session_id
			ORDER BY e.seq DESC LIMIT 1), k.forked_at), l.event_head,
		CASE WHEN k.parent_id IS NULL THEN l.pending ELSE (SELECT count(*) FROM submissions q
			WHERE q.session_id = k.session_id AND q.status + 0 < 2) END, r.executor, k.labels, k.metadata,
		k.forked_from, k.forked_at, k.rewound_to FROM `
	sessionJoins   = ` JOIN lanes l ON l.lane_id = k.lane_id JOIN sessions r ON r.session_id = k.lane_id `
	sessionColumns = sessionSelect + `sessions k` + sessionJoins
	sessionPage    = `AND k.session_id < $2 AND ($3 = '' OR k.instance = $3)
		AND substr(k.instance, 1, length(CAST($5 AS text))) = CAST($5 AS text) ORDER BY k.session_id DESC LIMIT $4`
)

// noRuns leaves out those of runs: see package run.
const noRuns = `AND substr(k.agent, 1, 9) <> '` + run.Name + `' `

var (
	findSession = reads(sessionColumns + `WHERE k.tenant = $1 AND k.agent = $2 AND k.instance = $3 AND k.name = $4`)
	getSession  = reads(sessionColumns + `WHERE k.session_id = $1 AND k.tenant = $2`)
	// The order of ids finds a page at once. To look for the tenant first would not: nearly every session is of one.
	listSessions = reads(sessionColumns + `WHERE k.tenant || '' = $1 AND k.parent_id IS NULL ` + noRuns + sessionPage)
	// "k.agent <> ''" always holds. It is the condition of the index of agents' sessions.
	listAgentSessions = reads(sessionColumns + `WHERE k.tenant = $1 AND k.agent = $6 AND k.agent <> ''
		AND k.parent_id IS NULL ` + noRuns + sessionPage)
	listChildren = reads(sessionColumns + `WHERE k.tenant || '' = $1 AND k.parent_id = $6 ` + sessionPage)
	// Of several labels, the first one finds the sessions. $7 are the labels, of which there are $8.
	listLabelled = reads(sessionSelect + `session_labels m JOIN sessions k ON k.session_id = m.session_id` +
		sessionJoins + `WHERE m.tenant = $1 AND m.label = $9 AND m.session_id < $2 AND ($6 = '' OR k.agent = $6)
		AND k.parent_id IS NULL ` + noRuns + `AND ($3 = '' OR k.instance = $3)
		AND substr(k.instance, 1, length(CAST($5 AS text))) = CAST($5 AS text)
		AND (SELECT count(*) FROM {list $7} w JOIN session_labels o ON o.session_id = k.session_id
			AND o.label = w.value) = $8 ORDER BY m.session_id DESC LIMIT $4`)
	listEntries = reads(`SELECT seq, submission_id, kind, body, created_at FROM entries
		WHERE session_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`)
	listShared = reads(`SELECT seq, submission_id, kind, body, created_at FROM entries
		WHERE session_id = $1 AND seq > $2 AND seq <= $4 ORDER BY seq LIMIT $3`)
	basesAfter  = reads(`SELECT base_id, upto FROM session_bases WHERE session_id = $1 AND upto > $2 ORDER BY upto`)
	basesBack   = reads(`SELECT base_id, after, upto FROM session_bases WHERE session_id = $1 ORDER BY upto DESC`)
	lastSummary = reads(`SELECT seq, submission_id, kind, body, created_at FROM entries
		WHERE session_id = $1 AND kind = 'summary' AND seq > $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1`)
)

// afterAll is not below any id.
const afterAll = "ffffffff-ffff-ffff-ffff-ffffffffffff"

// session decodes a session. One whose labels cannot be read is known without them.
func (t *Tables) session(r Row) (session.Session, error) {
	s := session.Session{
		ID:        r.text(0),
		Key:       session.Key{Tenant: r.text(1), Agent: r.text(2), Instance: r.text(3), Name: r.text(4)},
		CreatedAt: r.time(5), LaneID: r.text(6), ParentID: r.text(7), ParentCall: r.text(8),
		EntryHead: r.int(9), EventHead: r.int(10), Pending: int(r.int(11)), Executor: r.text(12),
		ForkedFrom: r.text(15), ForkedAt: r.int(16), RewoundTo: r.text(17),
	}
	if m := r.text(14); m != "" {
		s.Metadata = json.RawMessage(m)
	}
	if err := r.json(13, &s.Labels); err != nil {
		s.Labels = nil
		t.Damaged(fmt.Errorf("decoding the labels of session %s: %w", s.ID, err))
	}
	return s, nil
}

// FindSession implements session.Store.
func (t *Tables) FindSession(ctx context.Context, k session.Key) (session.Session, error) {
	s, err := one(ctx, t.port, t.session, session.ErrNotFound, findSession, k.Tenant, k.Agent, k.Instance, k.Name)
	return s, wrap("find session", err)
}

// GetSession implements session.Store.
func (t *Tables) GetSession(ctx context.Context, tenant, id string) (session.Session, error) {
	if !ident.IsUUID(id) {
		return session.Session{}, session.ErrNotFound
	}
	s, err := one(ctx, t.port, t.session, session.ErrNotFound, getSession, id, tenant)
	return s, wrap("get session", err)
}

// ListSessions implements session.Store.
func (t *Tables) ListSessions(ctx context.Context, f session.Filter) ([]session.Session, error) {
	before := f.BeforeID
	if before == "" {
		before = afterAll
	}
	if !ident.IsUUID(before) || f.ParentID != "" && !ident.IsUUID(f.ParentID) {
		return nil, nil
	}
	s, args := listSessions, []any{f.Tenant, before, f.Instance, max(f.Limit, 0), f.InstancePrefix}
	switch {
	case f.ParentID != "":
		s, args = listChildren, append(args, f.ParentID)
	case len(f.Labels) > 0:
		all := labelsOf(f.Labels)
		s, args = listLabelled, append(args, f.Agent, all.json(), len(all), all[0])
	case f.Agent != "":
		s, args = listAgentSessions, append(args, f.Agent)
	}
	page, err := list(ctx, t, t.session, s, args...)
	return page, wrap("list sessions", err)
}

// Entries implements session.Store.
func (t *Tables) Entries(ctx context.Context, sessionID string, after int64, limit int) ([]session.Entry, error) {
	if !ident.IsUUID(sessionID) || limit <= 0 {
		return nil, nil
	}
	page, err := t.entries(ctx, listEntries, sessionID, after, limit)
	if err == nil && (len(page) == 0 || page[0].Seq != after+1) {
		page, err = t.withShared(ctx, page, sessionID, after, limit)
	}
	return page, wrap("read entries", err)
}

func (t *Tables) entries(ctx context.Context, s Statement, sessionID string, args ...any) ([]session.Entry, error) {
	return list(ctx, t, func(r Row) (session.Entry, error) {
		e := decodeEntry(r)
		if e.Unreadable != nil {
			t.report(ctx, fmt.Errorf("session %s: %w", sessionID, e.Unreadable))
		}
		return e, nil
	}, s, append([]any{sessionID}, args...)...)
}

// withShared puts before a page of a fork's own entries those that it shares and that the page lacks.
func (t *Tables) withShared(
	ctx context.Context, own []session.Entry, sessionID string, after int64, limit int,
) (page []session.Entry, err error) {
	bases, err := t.port.Query(ctx, basesAfter, sessionID, after)
	if err != nil {
		return nil, err
	}
	for _, b := range bases {
		if len(page) == limit {
			return page, nil
		}
		shared, err := t.entries(ctx, listShared, b.text(0), after, limit-len(page), b.int(1))
		if err != nil {
			return nil, err
		}
		page, after = append(page, shared...), b.int(1)
	}
	return append(page, own[:min(len(own), limit-len(page))]...), nil
}

// findImage looks in the session, and in those whose entries it shares.
var findImage = reads(`SELECT body FROM images WHERE session_id = $1 AND sha256 = $2
	UNION ALL SELECT i.body FROM session_bases b JOIN images i ON i.session_id = b.base_id AND i.sha256 = $2
	WHERE b.session_id = $1 LIMIT 1`)

// Image implements session.Store.
func (t *Tables) Image(ctx context.Context, sessionID, sha256 string) ([]byte, error) {
	if sum, err := hex.DecodeString(sha256); err != nil || len(sum) != session.HashSize || !ident.IsUUID(sessionID) {
		return nil, session.ErrNoImage
	}
	body, err := one(ctx, t.port, firstBlob, session.ErrNoImage, findImage, sessionID, sha256)
	return body, wrap("read an image", err)
}

// LastSummary implements session.Store.
func (t *Tables) LastSummary(ctx context.Context, sessionID string) (e session.Entry, ok bool, err error) {
	if !ident.IsUUID(sessionID) {
		return e, false, nil
	}
	// What a fork shares comes before what it has. A join of both would be planned from its wrong end, at all summaries
	// that there are.
	e, ok, err = t.summary(ctx, sessionID, 0, math.MaxInt64)
	if ok || err != nil {
		return e, ok, err
	}
	bases, err := t.port.Query(ctx, basesBack, sessionID)
	for i := 0; i < len(bases) && !ok && err == nil; i++ {
		e, ok, err = t.summary(ctx, bases[i].text(0), bases[i].int(1), bases[i].int(2))
	}
	return e, ok, wrap("read the last summary", err)
}

// summary is the last one of a session's own entries after one of them, up to another.
func (t *Tables) summary(ctx context.Context, of string, after, upTo int64) (e session.Entry, ok bool, err error) {
	decode := func(r Row) (session.Entry, error) { return decodeEntry(r), nil }
	e, err = one(ctx, t.port, decode, session.ErrNotFound, lastSummary, of, after, upTo)
	if errors.Is(err, session.ErrNotFound) {
		return session.Entry{}, false, nil
	}
	return e, err == nil, wrap("read the last summary", err)
}

// decodeEntry leaves no entry out: a conversation that lacks one is another conversation.
func decodeEntry(r Row) session.Entry {
	e := session.Entry{
		Seq: r.int(0), SubmissionID: r.text(1), Kind: session.Kind(r.text(2)), Body: r.blob(3), CreatedAt: r.time(4),
	}
	if err := json.Unmarshal(e.Body, &e.Message); err != nil {
		e.Unreadable = &session.UnreadableError{Seq: e.Seq, Err: err}
		e.Message = model.Message{Role: roles[e.Kind], Content: []model.Block{{
			Type: model.TextBlock, Text: "[what was here cannot be read from the database]",
		}}}
	}
	return e
}

// roles are those of an entry whose message does not tell.
var roles = map[session.Kind]model.Role{
	session.Input: model.User, session.Assistant: model.Assistant, session.Marker: model.Assistant,
	session.ToolResult: model.ToolRole, session.Workspace: model.User, session.Skill: model.User,
	session.Summary: model.User,
}
