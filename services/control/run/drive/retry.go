package drive

import (
	"hash/fnv"
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/services/control/workflow"
)

// retries reports whether a try follows one that has failed for a reason. A step that names no reasons is tried again
// after what may pass, and not after what is as wrong the next time.
func (n *node) retries(reason string) bool {
	if len(n.def.Retry.On) > 0 {
		for _, r := range n.def.Retry.On {
			if r == reason {
				return true
			}
		}
		return false
	}
	switch reason {
	case ReasonExpression, ReasonTooLarge, ReasonCancelled, ReasonFailed, ReasonRefused, ReasonText, ReasonArguments:
		return false
	}
	_, fails := n.def.Do.(*workflow.Fail)
	return !fails
}

// longestBackoff is the longest pause of a step that names none.
const longestBackoff = time.Hour

// backoff is the pause before the next try: it doubles, and a part of it depends on the run and the step, so that those
// that failed together do not try together.
func (n *node) backoff() time.Duration {
	r := n.def.Retry
	longest := r.Max
	if longest == 0 {
		longest = longestBackoff
	}
	pause := r.Backoff
	for i := 1; i < n.rec.Try && pause < longest; i++ {
		pause *= 2
	}
	pause = min(pause, longest)
	h := fnv.New64a()
	h.Write([]byte(n.list.m.facts.ID + "\n" + n.path + "\n" + strconv.Itoa(n.rec.Try)))
	return pause - time.Duration(float64(pause)*0.5*float64(h.Sum64()%1000)/1000)
}
