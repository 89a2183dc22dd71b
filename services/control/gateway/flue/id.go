package flue

import (
	"encoding/base32"
	"encoding/binary"

	"github.com/google/uuid"
)

// crockford is the alphabet of ULIDs.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ulid writes a UUIDv7, which is a ULID in all but its spelling: 48 bits of milliseconds, then what makes it unique. n
// tells ids apart that are derived from one UUID, so that they are the same each time a submission is followed.
func ulid(id string, n uint32) string {
	u, err := uuid.Parse(id)
	if err != nil {
		u = uuid.UUID{} // only a submission that was never admitted has none
	}
	binary.BigEndian.PutUint32(u[12:], binary.BigEndian.Uint32(u[12:])+n)
	// 26 characters hold 130 bits: two zero bits come first.
	var padded [17]byte
	carry := byte(0)
	for i, b := range u {
		padded[i] = carry | b>>2
		carry = b << 6
	}
	padded[16] = carry
	return crockford.EncodeToString(padded[:])[:26]
}
