package lane

import "sync"

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
	do   func() // instead of a step: something that commits must not run beside
	out  Committed
	err  error

	turn chan struct{} // closed when its caller is to write, or when it has been written
	done bool
}

// commit writes a step, with those of others, and returns the request with its answer.
func (m *merger) commit(s Step, w With) *request {
	r := &request{step: s, with: w, turn: make(chan struct{})}
	m.pass(r)
	return r
}

// rest runs f while nothing is written.
func (m *merger) rest(f func()) { m.pass(&request{do: f, turn: make(chan struct{})}) }

func (m *merger) pass(r *request) {
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
	defer m.answer(batch, r)
	if batch[0].do != nil {
		batch[0].do()
		return
	}
	m.write(batch)
}

// take removes what is written now: all steps up to something that is done alone, or that alone. A step that rests the
// lane or goes on with the next head is the last of its write.
func (m *merger) take() []*request {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.queue) {
		r := m.queue[n]
		alone := r.do != nil || r.with.Park != nil
		if alone && n > 0 {
			break
		}
		n++
		if alone || r.with.Continue {
			break
		}
	}
	batch := append([]*request(nil), m.queue[:n]...)
	m.queue = append(m.queue[:0], m.queue[n:]...)
	return batch
}

// answer lets the callers of a batch go on; mine is the writer's own request.
func (m *merger) answer(batch []*request, mine *request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range batch {
		r.done = true
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
