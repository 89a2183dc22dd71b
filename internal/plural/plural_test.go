package plural

import "testing"

func TestOf(t *testing.T) {
	for n, want := range map[int]string{0: "0 bytes", 1: "1 byte", 2: "2 bytes", -1: "-1 bytes"} {
		if got := Of(n, "byte"); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
