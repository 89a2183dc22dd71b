package provider

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// OpenAI's Responses want the reasoning items of earlier turns back, which fantasy neither gives us whole nor sends. So the transport
// reads them off the stream, and the prompt holds a marker in the place of each that the transport replaces by the item. A marker
// is a random text, so that nothing in a conversation can be mistaken for one.

// newMarker begins the markers of one call.
func newMarker() string { return "pawl-reasoning-" + rand.Text() + "-" }

// mark adds an item and returns its marker.
func (x *exchange) mark(item []byte) string {
	x.items = append(x.items, item)
	return x.marker + strconv.Itoa(len(x.items)-1)
}

// replay replaces the markers in the body of r.
func (x *exchange) replay(r *http.Request) error {
	if len(x.items) == 0 || r.Body == nil {
		return nil
	}
	raw, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return fmt.Errorf("reading the request to be sent: %w", err)
	}
	if raw, err = x.fill(raw); err != nil {
		return fmt.Errorf("putting reasoning into the request: %w", err)
	}
	r.ContentLength = int64(len(raw))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	r.Body, err = r.GetBody()
	return err
}

// fill replaces the input items that are markers.
func (x *exchange) fill(raw []byte) ([]byte, error) {
	var body map[string]json.RawMessage
	var input []json.RawMessage
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body["input"], &input); err != nil {
		return nil, err
	}
	for i, item := range input {
		if !bytes.Contains(item, []byte(x.marker)) {
			continue
		}
		for n := range x.items {
			if bytes.Contains(item, []byte(`"`+x.marker+strconv.Itoa(n)+`"`)) {
				input[i] = x.items[n]
			}
		}
	}
	var err error
	if body["input"], err = json.Marshal(input); err != nil {
		return nil, err
	}
	return json.Marshal(body)
}
