package turn

import "github.com/pawl-dev/pawl/services/control/tool"

// redactor hides secrets in a stream that comes in pieces. It holds back as many bytes as a secret could still be a part of.
type redactor struct {
	secrets []string
	hold    int
	held    []byte
	offset  int64 // of held
}

func newRedactor(secrets []string) redactor {
	r := redactor{secrets: secrets}
	for _, s := range secrets {
		r.hold = max(r.hold, len(s)-1)
	}
	return r
}

// pass takes a piece and returns what can be shown by now and the position of its first byte.
func (r *redactor) pass(offset int64, data []byte) (int64, []byte) {
	if r.hold == 0 {
		return offset, data
	}
	if len(r.held) == 0 {
		r.offset = offset
	}
	r.held = append(r.held, data...)
	n := len(r.held) - r.hold
	if n <= 0 {
		return r.offset, nil
	}
	return r.show(n)
}

// rest returns what was held back, at the end of the stream.
func (r *redactor) rest() (int64, []byte) { return r.show(len(r.held)) }

// show gives out n bytes, and the whole of a secret that begins among them.
func (r *redactor) show(n int) (int64, []byte) {
	whole := string(r.held)
	for n < len(whole) && tool.Redact(whole[:n], r.secrets)+tool.Redact(whole[n:], r.secrets) != tool.Redact(whole, r.secrets) {
		n++
	}
	offset, out := r.offset, []byte(tool.Redact(whole[:n], r.secrets))
	r.held, r.offset = r.held[n:], r.offset+int64(n)
	return offset, out
}
