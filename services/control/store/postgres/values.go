package postgres

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// newID is a UUIDv7.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// isID reports whether s can be an id at all; what cannot is not found, not an error of the database.
func isID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// optional is s for a column that has NULL instead of "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// printable is s as a text column can hold it. What models and providers say may hold anything, and must not keep a
// commit from being written.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// moment is t for a column that has NULL instead of the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// value is *p, zero for NULL.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func micros(d time.Duration) int64 { return d.Microseconds() }

// graces is lane.Kind's Grace of each kind in microseconds, in order of their numbers from 1, which is how a statement
// counts an array.
var graces = []int64{micros(lane.KindSession.Grace()), micros(lane.KindRun.Grace())}

// validIDs is those of ids that can be ids.
func validIDs(ids []string) []string {
	valid := make([]string, 0, len(ids))
	for _, id := range ids {
		if isID(id) {
			valid = append(valid, id)
		}
	}
	return valid
}
