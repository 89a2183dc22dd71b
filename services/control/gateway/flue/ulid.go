package flue

import (
	"encoding/base32"
	"encoding/binary"
	"strings"

	"github.com/google/uuid"
)

// crockford is the alphabet of ULIDs.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ulidLength is how many characters a ULID has. They hold 130 bits: two zero bits come first.
const ulidLength = 26

// ulid writes a UUIDv7, which is a ULID in all but its spelling: 48 bits of milliseconds, then what makes it unique. n
// tells ids apart that are derived from one UUID, so that they are the same each time a submission is followed.
func ulid(id string, n uint32) string {
	u, err := uuid.Parse(id)
	if err != nil {
		u = uuid.UUID{} // only a submission that was never admitted has none
	}
	binary.BigEndian.PutUint32(u[12:], binary.BigEndian.Uint32(u[12:])+n)
	var padded [17]byte
	carry := byte(0)
	for i, b := range u {
		padded[i] = carry | b>>2
		carry = b << 6
	}
	padded[16] = carry
	return crockford.EncodeToString(padded[:])[:ulidLength]
}

// parseULID is the UUID that ulid has written; ok is false for a text that it never writes.
func parseULID(text string) (id string, ok bool) {
	if len(text) != ulidLength {
		return "", false
	}
	// The last character has two bits of the last byte that is decoded. The library passes over line breaks, and takes
	// some bytes for the end.
	padded, err := crockford.DecodeString(text + "00")
	if err != nil || len(padded) != 17 || padded[0]>>6 != 0 {
		return "", false
	}
	var u uuid.UUID
	for i := range u {
		u[i] = padded[i]<<2 | padded[i+1]>>6
	}
	return u.String(), true
}

// RunID is how a run is named: its workflow, and the UUID that the run has elsewhere.
func RunID(workflow, id string) string { return "workflow:" + workflow + ":" + ulid(id, 0) }

// ParseRunID is what RunID was made of; ok is false for a text that RunID never returns.
func ParseRunID(text string) (workflow, id string, ok bool) {
	rest, ok := strings.CutPrefix(text, "workflow:")
	if !ok {
		return "", "", false
	}
	workflow, spelled, ok := strings.Cut(rest, ":")
	if !ok || workflow == "" {
		return "", "", false
	}
	id, ok = parseULID(spelled)
	return workflow, id, ok
}
