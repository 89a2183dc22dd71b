package model

// MaxModels is maxModels, for tests.
const MaxModels = maxModels

// Limiters is how many limiters the registry keeps.
func (r *Registry) Limiters() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.limiters)
}
