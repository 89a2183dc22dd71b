package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

const defaultTenant = session.DefaultTenant

var (
	insertEntry = sql(`INSERT INTO entries (session_id, seq, tenant, submission_id, kind, body, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?)`)
	selectEntries = sql(`SELECT seq, submission_id, kind, body, created_at FROM entries
		WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?`)
)

// entry is an entry as it is stored.
type entry struct {
	seq          int64
	submissionID string
	kind         session.Kind
	body         []byte // JSON of the message
	createdAt    int64  // 0 is now
}

// encodeEntries checks and encodes the entries of a step.
func encodeEntries(s *lane.Step) ([]entry, error) {
	entries := make([]entry, 0, len(s.Entries))
	for i, e := range s.Entries {
		if want := s.EntryHead + int64(i) + 1; e.Seq != want {
			return nil, fmt.Errorf("entry %d has seq %d, not %d", i, e.Seq, want)
		}
		body, err := json.Marshal(e.Message)
		if err != nil {
			return nil, fmt.Errorf("encoding entry %d: %w", e.Seq, err)
		}
		entries = append(entries, entry{
			seq: e.Seq, submissionID: e.SubmissionID, kind: e.Kind, body: body,
			createdAt: micros(e.CreatedAt),
		})
	}
	return entries, nil
}

func (t tx) addEntry(sessionID, tenant string, e entry) error {
	if e.createdAt == 0 {
		e.createdAt = t.micros()
	}
	_, err := t.exec(insertEntry, sessionID, e.seq, tenant, optional(e.submissionID), string(e.kind), e.body,
		e.createdAt)
	return err
}

// Entries implements session.Store.
func (s *Store) Entries(
	ctx context.Context, sessionID string, after int64, limit int,
) (entries []session.Entry, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(selectEntries, func(r row) (bool, error) {
			e := session.Entry{
				Seq: r.int(0), SubmissionID: r.text(1), Kind: session.Kind(r.text(2)),
				CreatedAt: r.time(4),
			}
			if err := json.Unmarshal(r.blob(3), &e.Message); err != nil {
				return false, fmt.Errorf("decoding entry %d: %w", e.Seq, err)
			}
			entries = append(entries, e)
			return true, nil
		}, sessionID, after, max(limit, 0))
	})
	return entries, err
}
