package transcode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// Entry is one name in the listing of a directory.
type Entry struct {
	// Name is the name. Of one that is not UTF-8, which no path can hold, each byte that is no character is \xNN.
	Name string `json:"name"`
	// Raw are the bytes of such a name.
	Raw []byte `json:"raw,omitempty"`
}

// list answers with the names in a directory: one JSON object that is written as the names come.
func (s *fileServer) list(ctx context.Context) error {
	stream, err := s.rpc.ReadDir(ctx, &pawlv1.ReadDirRequest{Target: s.target, Path: s.path})
	if err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	s.w.Header().Set("Content-Type", "application/json")
	s.w.Header().Set("Cache-Control", "no-store")
	s.w.Header().Set("X-Content-Type-Options", "nosniff")
	s.header(http.StatusOK)
	if s.r.Method == http.MethodHead {
		return nil
	}
	text, first := []byte(`{"entries":[`), true
	for {
		for _, name := range m.GetNames() {
			one, err := json.Marshal(entryOf(name))
			if err != nil {
				return err
			}
			if !first {
				text = append(text, ',')
			}
			text, first = append(text, one...), false
		}
		if err := s.write(text); err != nil {
			return err
		}
		text = text[:0]
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			return s.write([]byte("]}\n"))
		}
		if err != nil {
			return err
		}
	}
}

func entryOf(name []byte) Entry {
	if utf8.Valid(name) {
		return Entry{Name: string(name)}
	}
	var shown []byte
	for rest := name; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			shown = fmt.Appendf(shown, `\x%02x`, rest[0])
		} else {
			shown = append(shown, rest[:n]...)
		}
		rest = rest[n:]
	}
	return Entry{Name: string(shown), Raw: name}
}
