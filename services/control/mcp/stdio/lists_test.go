package stdio

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// What is kept of lists is bounded, in number and in bytes. The list that was not looked at for the longest time goes,
// and with the last one of a server what is known of its changes.
func TestListsAreForgotten(t *testing.T) {
	for name, c := range map[string]struct{ size, kept int }{
		"large ones": {maxListed / 4, 4}, "many": {1, maxLists},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newLists()
				of := func(i int) key { return key{tenant: "t", place: place{"x" + strconv.Itoa(i), "srv"}} }
				look := func(i int) *listing {
					time.Sleep(time.Millisecond)
					l := all.find(of(i))
					all.keep(l, c.size)
					return l
				}
				first := look(0)
				for i := range c.kept + 2 {
					look(i)
					look(0)
				}
				if len(all.all) != c.kept || len(all.places) != c.kept || all.bytes != c.kept*c.size {
					t.Errorf("%d lists of %d places are kept, of %d bytes", len(all.all), len(all.places), all.bytes)
				}
				if look(0) != first || all.all[of(1)] != nil || all.all[of(c.kept+1)] == nil {
					t.Error("those that were looked at last are not those that are kept")
				}
			})
		})
	}
}
