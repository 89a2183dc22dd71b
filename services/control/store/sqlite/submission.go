package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	selectSubmission  = sql(loopColumns + `WHERE s.submission_id = ? AND s.tenant = ? AND s.parent_call IS NULL`)
	selectSubmissions = sql(loopColumns + `WHERE s.session_id = ? AND s.seq < ? AND s.parent_call IS NULL
		ORDER BY s.seq DESC LIMIT ?`)
)

// GetSubmission implements submission.Store.
func (s *Store) GetSubmission(ctx context.Context, tenant, id string) (sub submission.Submission, err error) {
	err = s.read(ctx, func(c *conn) error {
		r, err := c.getSubmission(tenant, id)
		if err == nil {
			sub = r.submission(s.Damaged)
		}
		return err
	})
	return sub, err
}

func (c *conn) getSubmission(tenant, id string) (*loopRow, error) {
	r, err := c.loop(selectSubmission, id, tenant)
	if err == nil && r == nil {
		err = submission.ErrNotFound
	}
	return r, err
}

// ListSubmissions implements submission.Store.
func (s *Store) ListSubmissions(
	ctx context.Context, sessionID string, before int64, limit int,
) (subs []submission.Submission, err error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	err = s.read(ctx, func(c *conn) error {
		found, err := c.loops(selectSubmissions, sessionID, before, max(limit, 0))
		for _, r := range found {
			subs = append(subs, r.submission(s.Damaged))
		}
		return err
	})
	return subs, err
}
