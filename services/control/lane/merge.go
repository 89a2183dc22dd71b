package lane

import (
	"slices"
	"sync"

	"github.com/pawl-dev/pawl/internal/contain"
)

// merger lets one caller at a time write what all of them want. What is asked for while a write is under way is the
// next write.
type merger struct {
	write func(batch []*request)

	mu    sync.Mutex // guards what follows
	queue []*request
	busy  bool
}

// request is a step that waits to be written.
type request struct {
	step Step
	with With
	ends bool         // the step ends the head
	do   func() error // instead of a step: something that commits must not run beside
	out  Committed
	err  error

	turn chan struct{} // closed when its caller is to write, or when it has been written
	done bool
}

// alone runs f while nothing is written, and returns its error.
func (m *merger) alone(f func() error) error {
	r := &request{do: f}
	m.pass(r)
	return r.err
}

// pass returns once the request has its answer. A step is written with those of others. A panic of whoever writes is
// the answer to all that it was to write.
func (m *merger) pass(r *request) {
	r.turn = make(chan struct{})
	m.mu.Lock()
	m.queue = append(m.queue, r)
	mine := !m.busy
	m.busy = true
	m.mu.Unlock()
	if !mine {
		<-r.turn
		m.mu.Lock()
		done := r.done
		m.mu.Unlock()
		if done {
			return
		}
	}
	defer m.handOn()
	batch := m.take()
	err := contain.Do(func() error {
		if do := batch[0].do; do != nil {
			return do()
		}
		m.write(batch)
		return nil
	})
	m.answer(batch, r, err)
}

// take removes what is written now: all steps up to something that is done alone, or that alone. A step that parks the
// lane is alone. One that ends the head is the last of its write: nothing happens in a head after its end. A loop has
// one step of a write: the strands of a run are one loop, and stores write each row once.
func (m *merger) take() []*request {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.queue) {
		r := m.queue[n]
		alone := r.do != nil || r.with.Park != nil
		again := slices.ContainsFunc(m.queue[:n], func(q *request) bool { return q.step.LoopID == r.step.LoopID })
		if n > 0 && (alone || again) {
			break
		}
		n++
		if alone || r.ends {
			break
		}
	}
	batch := m.queue[:n:n]
	m.queue = m.queue[n:]
	return batch
}

// answer lets the callers of a batch go on, with err if there is one; mine is the writer's own request.
func (m *merger) answer(batch []*request, mine *request, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range batch {
		r.done = true
		if err != nil {
			r.out, r.err = Committed{}, err
		}
		if r != mine {
			close(r.turn)
		}
	}
}

// handOn makes the caller that has waited longest the next to write.
func (m *merger) handOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		m.busy = false
		return
	}
	close(m.queue[0].turn)
}
