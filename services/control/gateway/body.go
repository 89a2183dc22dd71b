package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/bodies"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
)

const (
	// maxBody is the longest request body in bytes.
	maxBody = 32 << 20
	// bodyLimit is how long one may take to arrive.
	bodyLimit = 2 * time.Minute
)

var errBodyTooLarge = payloadTooLarge(fmt.Sprintf("A request body has at most %d bytes.", maxBody))

// readBody returns the body, which is valid JSON; {} for none. The order of its rules is part of the protocol.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kinds, length := r.Header.Values("Content-Type"), r.Header.Get("Content-Length")
	if length == "0" || length == "" && r.ContentLength <= 0 && len(kinds) == 0 {
		return []byte("{}"), nil
	}
	if len(kinds) != 1 || !isJSON(kinds[0]) {
		return nil, flue.UnsupportedMediaType(strings.Join(kinds, ", "))
	}
	if coding := strings.Join(r.Header.Values("Content-Encoding"), ", "); coding != "" &&
		!strings.EqualFold(coding, "identity") {
		w.Header().Set("Accept-Encoding", "identity")
		return nil, flue.UnsupportedEncoding(coding)
	}
	if r.ContentLength > maxBody {
		return nil, errBodyTooLarge // without reading it
	}
	var tooLarge *http.MaxBytesError
	body, err := bodies.FromContext(r.Context()).ReadAll(http.MaxBytesReader(w, r.Body, maxBody), r.ContentLength)
	switch {
	case errors.Is(err, bodies.ErrFull):
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, err
	case errors.As(err, &tooLarge):
		return nil, errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, flue.InvalidJSON(fmt.Sprintf("the body did not arrive within %s", bodyLimit))
	case err != nil:
		return nil, flue.InvalidJSON("the body could not be read to its end")
	}
	// The deadline is the connection's, and the server reads from it to see whether the client is still there.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if !utf8.Valid(body) {
		// The parser would put other characters in the place of those that it cannot read.
		return nil, flue.InvalidJSON("the body is not UTF-8")
	}
	body = bytes.TrimPrefix(body, []byte("\uFEFF"))
	if len(bytes.TrimSpace(body)) == 0 {
		return []byte("{}"), nil
	}
	if !json.Valid(body) {
		var none json.RawMessage
		return nil, flue.InvalidJSON(fmt.Sprint(json.Unmarshal(body, &none)))
	}
	return body, nil
}

// isJSON reports whether a Content-Type is application/json, whatever its parameters are. Browsers do not send it to
// other origins without a preflight request, so a page that is not allowed cannot send a body that is read.
func isJSON(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}

func payloadTooLarge(details string) *flue.Error {
	return &flue.Error{
		Status: http.StatusRequestEntityTooLarge, Type: "payload_too_large",
		Message: "Request body is too large.", Details: details,
	}
}

// parsePrompt reads {"message": string, "session"?: string}. Other keys are ignored, and of a key that is there twice
// the last counts.
func parsePrompt(body []byte) (message, session string, err error) {
	var fields map[string]json.RawMessage // unlike a struct's, a map's keys are case-sensitive
	err = json.Unmarshal(body, &fields)
	message, ok := text(fields["message"])
	if err != nil || !ok {
		return "", "", flue.Malformed(flue.PromptBody)
	}
	raw, given := fields["session"]
	if !given {
		return message, "", nil
	}
	switch session, ok = text(raw); {
	case !ok || strings.TrimSpace(session) == "":
		return "", "", flue.Malformed(flue.SessionBlank)
	case strings.HasPrefix(session, "task:"):
		return "", "", flue.Malformed(flue.SessionTask)
	}
	return message, session, nil
}

// text is a JSON string; ok is false for anything else, null included.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}
