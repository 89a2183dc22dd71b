package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Digest is the sha256 of everything that the definition says, in hex. Comments, the order of keys and where the
// definition was read from do not matter. The hash is taken of the JSON form, so a new field must be left out there
// while it has its zero value.
func (d Definition) Digest() string {
	if d.Tools == nil {
		d.Tools = []string{}
	}
	if d.Expose == nil {
		d.Expose = []Surface{}
	}
	content, err := json.Marshal(d)
	if err != nil {
		panic(err) // only a cost limit that is no number, which Parse refuses
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
