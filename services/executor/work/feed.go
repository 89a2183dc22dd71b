package work

import (
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

const streams = 4 // numbers of pawlv1.Stream

// feed is how far the watcher of a call is. It belongs to Service.mu.
type feed struct {
	attached   bool // on this connection
	gen        int  // grows with every attach: what was read for an older one is thrown away
	first      int  // stream that is looked at first, so that they take turns
	dirty      [streams]bool
	sent       [streams]int64
	acked      [streams]int64
	size       [streams]int64 // once ended is set
	ended      [streams]bool  // size is final
	inRing     bool
	resultSent bool // on this connection
	linger     *time.Timer
	lingered   bool
	failures   int // to read, one after the other
	// rereading is set from a failure until the next look.
	rereading bool
}

// attach begins anew from where the watcher is.
func (f *feed) attach(stdout, stderr int64) {
	f.detach()
	f.attached = true
	from := [streams]int64{
		pawlv1.Stream_STREAM_STDOUT: max(0, stdout), pawlv1.Stream_STREAM_STDERR: max(0, stderr),
		// A file has one stream; its offset travels as stdout's.
		pawlv1.Stream_STREAM_FILE: max(0, stdout),
	}
	f.sent, f.acked = from, from
	f.touch()
}

// detach is the end of a connection.
func (f *feed) detach() {
	f.gen++
	f.attached, f.inRing, f.resultSent, f.lingered = false, false, false, false
	f.failures, f.rereading = 0, false
	f.stopLinger()
}

func (f *feed) stopLinger() {
	if f.linger != nil {
		f.linger.Stop()
		f.linger = nil
	}
}

func (f *feed) touch() {
	for i := range f.dirty {
		f.dirty[i] = true
	}
}

// ack gives credit and reports whether that changes anything.
func (f *feed) ack(s pawlv1.Stream, upto int64) bool {
	if s <= 0 || s >= streams {
		return false
	}
	upto = min(upto, f.sent[s])
	if upto <= f.acked[s] {
		return false
	}
	f.acked[s] = upto
	f.stopLinger()
	return true
}

// untaken reports whether the watcher has not taken all output of a call that ended.
func (f *feed) untaken(all []pawlv1.Stream) bool {
	for _, s := range all {
		if f.ended[s] && f.acked[s] < f.size[s] {
			return true
		}
	}
	return false
}

// unsent reports whether there is output of an ended call that was not sent.
func (f *feed) unsent(all []pawlv1.Stream) bool {
	for _, s := range all {
		if !f.ended[s] || f.sent[s] < f.size[s] {
			return true
		}
	}
	return false
}

// watch attaches a watcher that did not say where it is: it gets what was not acknowledged.
func (c *call) watch() {
	if !c.feed.attached {
		c.feed.attach(0, 0)
	}
}
