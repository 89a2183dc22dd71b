package model

// Memo keeps what a model has made of a conversation, so that the model makes each message into bytes once and not at
// every call. The zero value is empty. It belongs to one conversation, to which messages are only added, and to one
// call at a time.
type Memo struct {
	owner any
	kept  any
	size  int
}

// Load is what the owner kept; nil when it kept nothing, or another one did since.
func (m *Memo) Load(owner any) any {
	if m == nil || m.owner != owner {
		return nil
	}
	return m.kept
}

// Keep replaces what is kept. size is its bytes. A nil Memo keeps nothing.
func (m *Memo) Keep(owner, kept any, size int) {
	if m != nil {
		m.owner, m.kept, m.size = owner, kept, size
	}
}

// Size is how many bytes are kept.
func (m *Memo) Size() int {
	if m == nil {
		return 0
	}
	return m.size
}
