package mono

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		c := New()
		if c() != 0 {
			t.Errorf("it begins at %s", c())
		}
		time.Sleep(time.Minute)
		at := c()
		time.Sleep(time.Second)
		if at != time.Minute || c.Since(at) != time.Second {
			t.Errorf("it was %s, and that is %s ago", at, c.Since(at))
		}
	})
}
