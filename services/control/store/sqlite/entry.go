package sqlite

import (
	"fmt"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

var insertEntry = sql(`INSERT INTO entries (session_id, seq, tenant, submission_id, kind, body, created_at)
	VALUES (?, ?, ?, ?, ?, ?, ?)`)

// entry is an entry as it is stored.
type entry struct {
	seq          int64
	submissionID string
	kind         session.Kind
	body         []byte // JSON of the message
	createdAt    int64  // 0 is now
	images       []session.Image
}

var insertImage = sql(`INSERT INTO images (session_id, sha256, tenant, body) VALUES (?, ?, ?, ?)
	ON CONFLICT (session_id, sha256) DO NOTHING`)

func (t tx) addImages(sessionID, tenant string, images []session.Image) error {
	for _, i := range images {
		if _, err := t.exec(insertImage, sessionID, i.SHA256, tenant, i.Data); err != nil {
			return err
		}
	}
	return nil
}

// encodeEntries checks and encodes the entries of a step.
func encodeEntries(s *lane.Step) ([]entry, error) {
	entries := make([]entry, 0, len(s.Entries))
	for i := range s.Entries {
		e := &s.Entries[i]
		if want := s.EntryHead + int64(i) + 1; e.Seq != want {
			return nil, fmt.Errorf("entry %d has seq %d, not %d", i, e.Seq, want)
		}
		body, err := e.Encode()
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{
			seq: e.Seq, submissionID: e.SubmissionID, kind: e.Kind, body: body,
			createdAt: micros(e.CreatedAt), images: e.Images,
		})
	}
	return entries, nil
}

func (t tx) addEntry(sessionID, tenant string, e entry) error {
	if e.createdAt == 0 {
		e.createdAt = t.micros()
	}
	if _, err := t.exec(insertEntry, sessionID, e.seq, tenant, optional(e.submissionID), string(e.kind), e.body,
		e.createdAt); err != nil {
		return err
	}
	return t.addImages(sessionID, tenant, e.images)
}
