package rows

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/model"
)

var usedBelow = reads(`SELECT s.submission_id, s.usage, (SELECT count(*) FROM turns n
		WHERE n.submission_id = s.submission_id AND n.error = '' AND n.purpose = '')
	FROM submissions s JOIN tool_calls c ON c.call_id = s.parent_call
	WHERE s.root_id = $1 AND s.parent_call IS NOT NULL AND s.status = 2
		AND CAST(c.submission_id AS text) = CAST(s.root_id AS text)`)

// UsedBelow implements store.Used.
func (t *Tables) UsedBelow(ctx context.Context, rootID string) (answers int, usage model.Usage, err error) {
	if !ident.IsUUID(rootID) {
		return 0, usage, nil
	}
	found, err := list(ctx, t, func(r Row) (u model.Usage, err error) {
		answers += int(r.int(2))
		if err = r.json(1, &u); err != nil {
			err = fmt.Errorf("the usage of loop %s: %w", r.text(0), err)
		}
		return u, err
	}, usedBelow, rootID)
	for _, u := range found {
		usage = usage.Add(u)
	}
	return answers, usage, wrap("read what loops have used", err)
}
