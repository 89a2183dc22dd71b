package sqlite

import (
	"context"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/submission"
)

// shortInput is an input if that is not longer than one in a list may be.
var shortInput = fmt.Sprintf("iif(length(s.input) <= %d, s.input, NULL),", submission.MaxListed)

var (
	selectSubmission = sql(loopColumns + `WHERE s.submission_id = ? AND s.tenant = ? AND s.parent_call IS NULL`)
	// Of many, long inputs are not read.
	selectSubmissions = sql(strings.Replace(loopColumns, "s.input,", shortInput, 1) +
		`WHERE s.session_id = ? AND s.seq < ? AND s.parent_call IS NULL ORDER BY s.seq DESC LIMIT ?`)
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
