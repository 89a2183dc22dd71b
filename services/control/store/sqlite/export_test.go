package sqlite

import "context"

// forget deletes by session id.
var forget = func() (all []statement) {
	for _, table := range []string{"segments", "tool_calls", "entries", "submissions", "lanes", "sessions"} {
		all = append(all, sql(`DELETE FROM `+table+` WHERE session_id = ?`))
	}
	return all
}()

// Forget deletes what is stored of a session, but for its receipts.
func (s *Store) Forget(ctx context.Context, sessionID string) error {
	return s.write(ctx, func(t tx) error {
		for _, q := range forget {
			if _, err := t.exec(q, sessionID); err != nil {
				return err
			}
		}
		return nil
	})
}

// ExecText runs a statement.
func (s *Store) ExecText(ctx context.Context, text string) error {
	return s.write(ctx, func(t tx) error {
		t.wrote = true
		_, err := t.raw.ExecContext(ctx, text, nil)
		return err
	})
}
