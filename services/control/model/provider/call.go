package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

const (
	// usageGrace is how long a stream that said why it ended is waited for, to say what it cost or to end.
	usageGrace = 2 * time.Second
	// drainGrace is how long a stream may stay open after its last event before its connection is given up.
	drainGrace = 50 * time.Millisecond
	// maxErrorBody is how much of an error's body is read.
	maxErrorBody = 64 << 10
	// maxCame is how much is kept of what came and was no answer, to be quoted.
	maxCame = 300
	// maxAnswer bounds the events of one answer, in bytes.
	maxAnswer = 64 << 20
	// maxPauses bounds how often a provider that pauses its answer is asked to go on. After so many the answer ends as
	// one that was cut at its length.
	maxPauses = 16
	// maxAmendments bounds how often a refused request is changed and sent again.
	maxAmendments = 4
)

// conversation is what is kept of a conversation between calls, see model.Memo.
type conversation struct {
	encoder *wire.Encoder
	head    []byte
	headOf  headKey
}

// size is how many bytes are kept.
func (c *conversation) size() int { return cap(c.head) + len(c.headOf.system) + c.encoder.Size() }

// headKey is what the head of a request depends on.
type headKey struct {
	system, cacheKey string
	thinking         model.Thinking
	maxOutput        int
	tools            *byte // the encoded set
	refused          int   // how many parameters were refused so far
	noThoughts       bool
	mustCall         bool
}

// call is one call, over all requests that it takes.
type call struct {
	model.Request
	conversation *conversation
	without      []string // parameters that are left out
	stale        bool     // the server refused who asks, and other credentials may be had
	paused       *paused  // an answer that the request goes on with, nil for none
}

// paused is an answer that the provider has paused.
type paused struct {
	decoder *wire.Decoder
	answer  []model.Block // what came of it
	rest    []model.Block // see wire.Decoder.Pause
	times   int
}

// Stream implements model.Model.
func (m *languageModel) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		c := &call{Request: req, conversation: m.recall(req)}
		defer func() { req.Memo.Keep(m, c.conversation, c.conversation.size()) }()
		renewed := false
		for attempt := 1; ; attempt++ {
			err := m.attempt(ctx, c, func(p model.Part) bool { return yield(p, nil) })
			if err == nil {
				return
			}
			if errors.Is(err, errPaused) {
				attempt--
				continue
			}
			without, e := "", (*model.Error)(nil)
			if errors.As(err, &e) && attempt <= maxAmendments {
				if without = m.amend(c, e); without == "" && c.stale && !renewed {
					renewed, without = true, "the credentials that it refused"
				}
			}
			if without == "" {
				yield(model.Part{}, err)
				return
			}
			again := &model.Restart{Attempt: attempt + 1, Err: e, Without: without}
			c.paused = nil // what came of it is void
			if !yield(model.Part{Type: model.PartRestart, Restart: again}, nil) {
				return
			}
		}
	}
}

// recall is what was kept of the conversation that req goes on with.
func (m *languageModel) recall(req model.Request) *conversation {
	c, ok := req.Memo.Load(m).(*conversation)
	switch {
	case !ok:
		c = &conversation{encoder: wire.NewEncoder(m.target, wire.Omission{})}
	case !c.encoder.Continues(req.Messages):
		c.encoder = wire.NewEncoder(m.target, c.encoder.Omits())
	}
	return c
}

// body is the request in pieces.
func (m *languageModel) body(c *call) ([][]byte, error) {
	c.without = append(slices.Clone(m.drop), m.refused.list()...)
	marked := !slices.Contains(c.without, wire.Marks)
	tools, err := m.encodeTools(c.Tools, marked)
	if err != nil {
		return nil, err
	}
	conv := c.conversation
	key := headKey{
		system: c.System, cacheKey: c.CacheKey, thinking: c.Thinking, maxOutput: c.MaxOutput,
		refused: len(c.without), noThoughts: conv.encoder.Omits().Thinking,
		mustCall: c.MustCall,
	}
	if len(tools) > 0 {
		key.tools = &tools[0]
	}
	if conv.head == nil || conv.headOf != key {
		head := wire.Head{Request: c.Request, Tools: tools, Without: c.without, NoThoughts: key.noThoughts}
		conv.head, conv.headOf = head.Append(nil, m.target), key
	}
	conv.encoder.Take(c.Messages)
	if p := c.paused; p != nil {
		return conv.encoder.Resume(conv.head, marked, slices.Concat(p.answer, p.rest)), nil
	}
	return conv.encoder.Body(conv.head, marked), nil
}

// attempt makes one request and passes its answer on. It returns nil when the answer is over, or the consumer has left.
func (m *languageModel) attempt(parent context.Context, c *call, yield func(model.Part) bool) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	body, err := m.body(c)
	if err != nil {
		return err
	}
	res, err := m.send(ctx, c, body)
	if err != nil {
		return m.failure(parent, false, err)
	}
	defer func() { _ = res.Body.Close() }()
	stream, err := uncompressed(res)
	if err != nil {
		return m.failure(parent, true, err)
	}
	if res.StatusCode/100 != 2 {
		said, err := io.ReadAll(io.LimitReader(stream, maxErrorBody))
		if err != nil && parent.Err() != nil {
			return m.failure(parent, true, err)
		}
		refused := m.refusal(res, said) // with as much of the body as came
		c.stale = m.access.identity != nil && isStale(res, said) && m.access.identity.forget(res.Request)
		return refused
	}
	if !yield(model.Part{Type: model.PartAlive}) {
		return nil
	}
	a := &answer{
		model: m, reader: m.events(stream), decoder: wire.NewDecoder(m.target.API, c.Tools), cancel: cancel,
	}
	if c.paused != nil {
		a.decoder = c.paused.decoder
	}
	defer a.reader.Release()
	switch err = a.read(c, yield); {
	case errors.Is(err, errLeft):
		return nil
	case errors.Is(err, errPaused):
		return err
	case err != nil:
		return m.failure(parent, true, a.foreign(res, err))
	}
	return nil
}

var (
	// errLeft says that the consumer has left.
	errLeft = errors.New("the consumer has left")
	// errPaused says that the provider has paused its answer, and the call how to go on.
	errPaused = errors.New("the provider has paused its answer")
)

// events are those of an answer.
type events interface {
	Next() (wire.Event, error)
	Garbage() []byte
	Release()
}

func (m *languageModel) events(stream io.Reader) events {
	if m.target.API == model.APIConverse {
		return wire.NewFrames(stream)
	}
	return wire.NewReader(stream)
}

// answer is an answer that is read.
type answer struct {
	model   *languageModel
	reader  events
	decoder *wire.Decoder
	cancel  context.CancelFunc
	came    []byte // the event that came last before anything of an answer
	blocks  []model.Block
}

// pass passes parts on; false when the consumer has left.
func (a *answer) pass(parts []model.Part, yield func(model.Part) bool) bool {
	for _, p := range parts {
		if p.Type == model.PartBlock {
			a.blocks = append(a.blocks, p.Block)
		}
		if !yield(a.priced(p)) {
			return false
		}
	}
	return true
}

// pause notes how a call goes on whose answer is paused.
func (a *answer) pause(c *call, yield func(model.Part) bool) error {
	parts, rest := a.decoder.Pause()
	if !a.pass(append(parts, model.Part{Type: model.PartPaused}), yield) {
		return errLeft
	}
	next := &paused{decoder: a.decoder, answer: a.blocks, rest: rest, times: 1}
	if before := c.paused; before != nil {
		next.answer, next.times = append(before.answer, a.blocks...), before.times+1
	}
	a.drain()
	c.paused = next
	return errPaused
}

// read passes the parts of an answer on.
func (a *answer) read(c *call, yield func(model.Part) bool) error {
	var grace *time.Timer
	for size := 0; !a.decoder.Ended(); {
		e, err := a.reader.Next()
		if err != nil {
			if a.decoder.Complete() || errors.Is(err, io.EOF) {
				break // whether the answer is over is the decoder's to say
			}
			return err
		}
		if size += len(e.Data); size > maxAnswer {
			return &wire.ForeignError{What: "the answer is longer than 64 MiB", Final: true}
		}
		parts, err := a.decoder.Event(e)
		if len(e.Data) > 0 && !a.decoder.Answered() {
			a.came = append(a.came[:0], e.Data[:min(len(e.Data), maxCame)]...)
		}
		if !a.pass(parts, yield) {
			return errLeft
		}
		if err != nil {
			return err
		}
		switch {
		case grace == nil && a.decoder.Complete():
			grace = time.AfterFunc(usageGrace, a.cancel)
			defer grace.Stop()
		case grace != nil && slices.ContainsFunc(parts, isContent):
			grace.Reset(usageGrace) // some servers give a reason with every piece of the answer
		}
	}
	if a.decoder.Paused() && (c.paused == nil || c.paused.times < maxPauses) {
		return a.pause(c, yield)
	}
	parts, err := a.decoder.End()
	if err != nil {
		return err
	}
	a.drain()
	if !a.pass(parts, yield) {
		return errLeft
	}
	return nil
}

// priced is a part with the cost of the usage that it tells.
func (a *answer) priced(p model.Part) model.Part {
	if p.Type == model.PartFinish || p.Type == model.PartUsage {
		p.Usage.Cost = a.model.target.Info.Price.Cost(p.Usage)
	}
	return p
}

// isContent reports whether a part is, or may be, a piece of the answer.
func isContent(p model.Part) bool { return p.Type != model.PartAlive && p.Type != model.PartUsage }

// drain reads to the end of the stream, so that its connection can be used again.
func (a *answer) drain() {
	timer := time.AfterFunc(drainGrace, a.cancel)
	defer timer.Stop()
	for {
		if _, err := a.reader.Next(); err != nil {
			return
		}
	}
}

// foreign says of a stream that was cut before anything of an answer came, what came instead.
func (a *answer) foreign(res *http.Response, err error) error {
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	stream := kind == "text/event-stream" || kind == eventStream
	came := a.reader.Garbage()
	if !stream {
		came = slices.Concat(came, a.came)
	}
	if !errors.Is(err, wire.ErrCut) || a.decoder.Answered() || len(came) == 0 {
		return err
	}
	return &wire.ForeignError{
		What: fmt.Sprintf("the answer (%q) is not what the API promises; check base_url and api of the provider", kind),
		Came: came, Final: !stream,
	}
}
