package memlimit

import (
	"reflect"
	"testing"
)

func TestLeavePages(t *testing.T) {
	before, err := filePages()
	if err != nil || before == 0 {
		t.Fatal(before, err)
	}
	if err := leavePages(); err != nil {
		t.Fatal(err)
	}
	if after, err := filePages(); err != nil || after >= before {
		t.Errorf("%d bytes of files were resident, and %d are, %v", before, after, err)
	}
}

// Only what the file still holds may be given up, and not a page that was written before it was protected.
func TestUntouchedPagesOnly(t *testing.T) {
	const smaps = `00400000-01db5000 r-xp 00000000 fe:00 10412849                           /opt/pawl bin/control
Rss:               24276 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01db5000-03fdb000 r--p 019b5000 fe:00 10412849                           /opt/pawl bin/control
Anonymous:             0 kB
03fdb000-03fdc000 r--p 03bdb000 fe:00 10412849                           /opt/pawl bin/control
Anonymous:             4 kB
03fdc000-041b7000 rw-p 03bdb000 fe:00 10412849                           /opt/pawl bin/control
Anonymous:             0 kB
c000000000-c000800000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 7                          /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000001000-7f0000002000 r--p 00000000 00:00 0
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1db5000}, {0x1db5000, 0x3fdb000}}
	if got := untouched([]byte(smaps), "/opt/pawl bin/control"); !reflect.DeepEqual(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}
