package turn

import "context"

// Executor is that of the lane's workspace, "" for none.
func (l *Lane) Executor() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.executor
}

// Binding is the executor that a commit writes as the one that has the workspace: "" if the row has one, which somebody
// may have moved since it was read.
func (l *Lane) Binding(executor string) string {
	if l.owner.Lease().Executor != "" {
		return ""
	}
	return executor
}

// bind gives the workspace an executor if it has none yet, and returns the one that it has.
func (l *Lane) bind(executor string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.executor == "" {
		l.executor = executor
	}
	return l.executor
}

// lookWhere reads where the workspace is if mail has come since: somebody may have moved it.
func (l *Lane) lookWhere(ctx context.Context) error {
	mail := l.owner.Mail()
	l.mu.Lock()
	known := l.mail == mail
	l.mu.Unlock()
	if known {
		return nil
	}
	s, err := l.deps.Store.GetSession(ctx, l.key.Tenant, l.id())
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mail = mail
	if s.Executor != "" {
		l.executor = s.Executor
	}
	return nil
}
