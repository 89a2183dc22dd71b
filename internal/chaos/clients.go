package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/chaos/check"
)

const (
	agentName    = "mixed"
	instanceName = "chaos"
	// depth is how many prompts of one session may be under way.
	depth = 2
)

// clients are those who prompt. What they ask for and what they are told is evidence.
type clients struct {
	cluster *cluster
	patient context.Context // clients with a key go on until this ends

	mu        sync.Mutex // guards what follows
	prompts   map[string]*check.Prompt
	acks      []check.Ack
	conflicts []string
	unheard   map[string]bool // prompts with a key that no answer came to
	verdicts  map[string]string
	summaries []string // submissions that are to write one
}

func newClients(c *cluster, patient context.Context) *clients {
	return &clients{
		cluster: c, patient: patient, prompts: map[string]*check.Prompt{}, unheard: map[string]bool{},
		verdicts: map[string]string{},
	}
}

// verdict is what is to be decided about a command.
func (c *clients) verdict(token string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verdicts[token]
}

// run prompts one session until ctx ends, and returns when every prompt was answered or given up.
func (c *clients) run(ctx context.Context, a *author) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, depth)
	for {
		p := a.next()
		select {
		case <-ctx.Done():
			return
		case free <- struct{}{}:
		}
		c.mu.Lock()
		c.prompts[p.ID] = &p.Prompt
		maps.Copy(c.verdicts, p.verdict)
		c.mu.Unlock()
		r := rand.New(rand.NewPCG(uint64(a.n), 7))
		wg.Go(func() {
			defer func() { <-free }()
			c.prompt(p, r)
			if p.compact {
				c.compact(p, r)
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.pause):
		}
	}
}

func (c *clients) acknowledged(a check.Ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks = append(c.acks, a)
	delete(c.unheard, a.Prompt)
}

// prompt makes one prompt, and again until it is answered if it has a key; then it does what else the plan says.
func (c *clients) prompt(p *prompt, r *rand.Rand) {
	ctx := c.patient
	if p.Key != "" {
		c.mu.Lock()
		c.unheard[p.ID] = true
		c.mu.Unlock()
	}
	id, admitted := "", false
	for tries := 0; ctx.Err() == nil; tries++ {
		// Longer each time, as clients that mean it do: the answer to a repeated prompt reads all events since the
		// first.
		patience := p.patient << min(tries, 4)
		if tries == 0 && p.dies > 0 {
			patience = p.dies
		}
		attempt, cancel := context.WithTimeout(ctx, patience)
		sub, ok := c.attempt(attempt, p, c.cluster.any(r))
		cancel()
		if ok {
			id, admitted = sub, true
			break
		}
		if p.Key == "" {
			return // nobody knows
		}
		wait(ctx, between(r, 20*time.Millisecond, 300*time.Millisecond))
	}
	if !admitted {
		return
	}
	if p.again {
		c.conflict(p, c.cluster.any(r))
	}
	if id == "" {
		return
	}
	if p.abort > 0 {
		wait(ctx, p.abort)
		c.abort(id, r)
	}
	c.wait(p, id, r)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// attempt tries once; ok says that the prompt is known to be admitted, and id as what, if the answer told.
func (c *clients) attempt(ctx context.Context, p *prompt, at *replica) (id string, ok bool) {
	switch p.via {
	case viaPrompt:
		return c.viaPrompt(ctx, p, at)
	case viaHTTP, viaSSE:
		return "", c.viaHTTP(ctx, p, at)
	}
	got, err := pawlv1.NewSubmissionServiceClient(at.conn).Submit(ctx, &pawlv1.SubmitRequest{
		Key: keyOf(p), Message: p.text, IdempotencyKey: p.Key, WhenBusy: p.busy,
	})
	if err != nil {
		return "", false
	}
	c.acknowledged(check.Ack{Prompt: p.ID, Submission: got.GetSubmission().GetSubmissionId()})
	return got.GetSubmission().GetSubmissionId(), true
}

func keyOf(p *prompt) *pawlv1.SessionKey {
	return &pawlv1.SessionKey{Agent: agentOf(p.Session), Instance: instanceName, Session: p.Session}
}

func (c *clients) viaPrompt(ctx context.Context, p *prompt, at *replica) (id string, ok bool) {
	stream, err := pawlv1.NewSubmissionServiceClient(at.conn).Prompt(ctx, &pawlv1.PromptRequest{
		Key: keyOf(p), Message: p.text, IdempotencyKey: p.Key, WhenBusy: p.busy,
	})
	for err == nil {
		var m *pawlv1.PromptResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		if s := m.GetSubmission(); s != nil {
			id, ok = s.GetSubmissionId(), true
			c.acknowledged(check.Ack{Prompt: p.ID, Submission: id})
		}
		for _, e := range m.GetEvents() {
			if s := e.GetSettled().GetSubmission(); s != nil {
				s.SubmissionId = id // what it has joined settles for it
				c.told(p, s)
			}
		}
	}
	return id, ok
}

// told notes that a client saw the settlement.
func (c *clients) told(p *prompt, s *pawlv1.Submission) {
	c.acknowledged(check.Ack{
		Prompt: p.ID, Submission: s.GetSubmissionId(), Outcome: outcomeName(s.GetOutcome()),
		Text: s.GetResult().GetText(),
	})
}

func outcomeName(o pawlv1.Outcome) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_"))
}

// viaHTTP speaks the HTTP surface; its answers name no submission.
func (c *clients) viaHTTP(ctx context.Context, p *prompt, at *replica) bool {
	body, err := json.Marshal(map[string]string{"message": p.text, "session": p.Session})
	if err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://"+at.frontHTTP.Addr()+"/agents/"+agentOf(p.Session)+"/"+instanceName, bytes.NewReader(body))
	if err != nil {
		return false
	}
	token, err := tokenOf(at)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	if p.Key != "" {
		req.Header.Set("Idempotency-Key", p.Key)
	}
	switch p.busy {
	case pawlv1.WhenBusy_WHEN_BUSY_STEER:
		req.Header.Set("Pawl-When-Busy", "steer")
	case pawlv1.WhenBusy_WHEN_BUSY_INTERRUPT:
		req.Header.Set("Pawl-When-Busy", "interrupt")
	}
	if p.via == viaSSE {
		req.Header.Set("Accept", "text/event-stream")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close() //nolint:errcheck // of a response that was read
	if p.via == viaSSE && res.StatusCode == http.StatusOK {
		line, err := bufio.NewReader(res.Body).ReadString('\n') // the first event: it is admitted
		if err != nil || !strings.HasPrefix(line, "event:") {
			return false
		}
		c.acknowledged(check.Ack{Prompt: p.ID})
		_, _ = io.Copy(io.Discard, res.Body) // until it ends or the client leaves
		return true
	}
	var answer struct {
		Result struct{ Text string }
		Error  struct {
			Meta struct{ SubmissionID, Outcome string }
		}
	}
	switch err := json.NewDecoder(res.Body).Decode(&answer); {
	case err != nil:
		return false
	case res.StatusCode == http.StatusOK:
		c.acknowledged(check.Ack{Prompt: p.ID, Outcome: "completed", Text: answer.Result.Text})
	case answer.Error.Meta.Outcome != "":
		c.acknowledged(check.Ack{
			Prompt: p.ID, Submission: answer.Error.Meta.SubmissionID,
			Outcome: answer.Error.Meta.Outcome,
		})
	default:
		return false // it was refused, or nobody knows
	}
	return true
}

// conflict uses a key again with another message: it must be refused.
func (c *clients) conflict(p *prompt, at *replica) {
	ctx, cancel := context.WithTimeout(c.patient, p.patient)
	defer cancel()
	_, err := pawlv1.NewSubmissionServiceClient(at.conn).Submit(ctx, &pawlv1.SubmitRequest{
		Key: keyOf(p), Message: "say: something else", IdempotencyKey: p.Key,
	})
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conflicts = append(c.conflicts, p.ID)
	}
}

func (c *clients) abort(id string, r *rand.Rand) {
	for range 5 {
		ctx, cancel := context.WithTimeout(c.patient, 2*time.Second)
		_, err := pawlv1.NewSubmissionServiceClient(c.cluster.any(r).conn).AbortSubmission(ctx,
			&pawlv1.AbortSubmissionRequest{SubmissionId: id})
		cancel()
		if err == nil || c.patient.Err() != nil {
			return
		}
		wait(c.patient, 50*time.Millisecond)
	}
}

// wait follows a submission to its end at any replica.
func (c *clients) wait(p *prompt, id string, r *rand.Rand) {
	for c.patient.Err() == nil {
		ctx, cancel := context.WithTimeout(c.patient, 5*time.Second)
		got, err := pawlv1.NewSubmissionServiceClient(c.cluster.any(r).conn).WaitSubmission(ctx,
			&pawlv1.WaitSubmissionRequest{SubmissionId: id})
		cancel()
		switch {
		case err == nil && got.GetSubmission().GetStatus() == pawlv1.Submission_STATUS_SETTLED:
			c.told(p, got.GetSubmission())
			return
		case status.Code(err) == codes.NotFound:
			return // the checker finds that it is gone
		}
		wait(c.patient, 50*time.Millisecond)
	}
}

// compact asks for a summary of the conversation, until that is promised.
func (c *clients) compact(p *prompt, r *rand.Rand) {
	for c.patient.Err() == nil {
		ctx, cancel := context.WithTimeout(c.patient, between(r, time.Second, 4*time.Second))
		conn := c.cluster.any(r).conn
		got, err := pawlv1.NewSessionServiceClient(conn).GetSession(ctx, &pawlv1.GetSessionRequest{
			Session: &pawlv1.GetSessionRequest_Key{Key: keyOf(p)},
		})
		var made *pawlv1.CompactSessionResponse
		if err == nil {
			made, err = pawlv1.NewSessionServiceClient(conn).CompactSession(ctx, &pawlv1.CompactSessionRequest{
				SessionId: got.GetSession().GetSessionId(), IdempotencyKey: "compact-" + p.ID,
			})
		}
		cancel()
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.summaries = append(c.summaries, made.GetSubmission().GetSubmissionId())
			return
		}
		wait(c.patient, 100*time.Millisecond)
	}
}

var errNoToken = errors.New("no token")

func tokenOf(at *replica) (string, error) {
	token, err := secret(at.token)
	if err == nil && token == "" {
		err = fmt.Errorf("%w in %s", errNoToken, at.token)
	}
	return token, err
}
