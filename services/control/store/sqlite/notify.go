package sqlite

import "context"

// Notify implements store.Notifier: there is no other process to tell.
func (s *Store) Notify(...string) {}

// Shared implements store.Notifier.
func (s *Store) Shared() bool { return false }

// Listen implements store.Notifier.
func (s *Store) Listen(ctx context.Context, _ func([]string)) error {
	<-ctx.Done()
	return nil
}
