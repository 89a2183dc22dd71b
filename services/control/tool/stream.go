package tool

import "strings"

// Stream redacts output that arrives in pieces, wherever the pieces are cut. It holds back what may be the beginning of
// a secret. Not for concurrent use.
type Stream struct {
	needles []string
	held    string
}

// NewStream redacts as Redact does.
func NewStream(secrets []string) *Stream { return &Stream{needles: needles(secrets)} }

// Next takes a piece and returns what can be shown now, which may be nothing.
func (s *Stream) Next(piece []byte) []byte {
	text := s.held + string(piece)
	end := s.open(text)
	for _, f := range merge(spans(text, s.needles)) {
		if f.from < end && end < f.to {
			end = f.from // what follows may still be a part of this one
		}
	}
	s.held = text[end:]
	return []byte(cover(text[:end], spans(text[:end], s.needles)))
}

// Close returns the rest.
func (s *Stream) Close() []byte {
	rest := cover(s.held, spans(s.held, s.needles))
	s.held = ""
	return []byte(rest)
}

// open is where the longest end of text begins that may grow into a secret.
func (s *Stream) open(text string) int {
	longest := 0
	for _, n := range s.needles {
		longest = max(longest, len(n)-1)
	}
	for i := max(len(text)-longest, 0); i < len(text); i++ {
		for _, n := range s.needles {
			if len(text)-i < len(n) && strings.HasPrefix(n, text[i:]) {
				return i
			}
		}
	}
	return len(text)
}
