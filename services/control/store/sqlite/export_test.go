package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
)

// Forget deletes what is stored of a lane, but for its receipts.
func (s *Store) Forget(ctx context.Context, laneID string) error {
	queries := []string{`DELETE FROM entries WHERE session_id IN (SELECT session_id FROM sessions WHERE lane_id = '`}
	queries[0] += laneID + `')`
	for _, table := range []string{"segments", "tool_calls", "turns", "submissions", "lanes", "sessions"} {
		queries = append(queries, `DELETE FROM `+table+` WHERE lane_id = '`+laneID+`'`)
	}
	for _, table := range []string{"runs", "run_steps", "run_signals", "run_blobs"} {
		queries = append(queries, `DELETE FROM `+table+` WHERE run_id = '`+laneID+`'`)
	}
	for _, q := range queries {
		if err := s.ExecText(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// ExecText runs a statement.
func (s *Store) ExecText(ctx context.Context, text string) error {
	return s.write(ctx, func(t tx) error {
		t.wrote = true
		_, err := t.raw.ExecContext(ctx, text, nil)
		return err
	})
}

// CountText is the first column of the first row of a query, a number.
func (s *Store) CountText(ctx context.Context, text string) (n int64, err error) {
	err = s.write(ctx, func(t tx) error {
		rows, err := t.raw.QueryContext(ctx, text, nil)
		if err != nil {
			return err
		}
		row := make([]driver.Value, len(rows.Columns()))
		if err := errors.Join(rows.Next(row), rows.Close()); err != nil {
			return err
		}
		n, _ = row[0].(int64)
		return nil
	})
	return n, err
}
