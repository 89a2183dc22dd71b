package auth

import (
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/time/rate"
)

// Whoever asks too often is told when to ask again, in seconds.
func TestSpendTellsWhenToTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for perSecond, want := range map[float64]string{1: "try again in 1 second", 0.5: "try again in 2 seconds"} {
			p := Principal{
				Limits: Limits{Rate: Rate{PerSecond: perSecond, Burst: 1}},
				pace:   rate.NewLimiter(rate.Limit(perSecond), 1),
			}
			if err := p.Spend(); err != nil {
				t.Fatal(err)
			}
			if err := p.Spend(); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%v a second: %v, want %s", perSecond, err, want)
			}
		}
	})
}
