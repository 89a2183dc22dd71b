package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// What is decided about a command.
const (
	decideYes   = "yes"
	decideNo    = "no"
	decideBoth  = "both"  // one says yes and another one no, at once
	decideTwice = "twice" // one says yes at two replicas at once
	decideNone  = ""      // nobody says anything
)

// approver is who decides, with a token of the role for it.
type approver struct {
	name, token string
	conns       []*grpc.ClientConn // by replica
}

// addApprovers makes the tokens of those who decide.
func (c *cluster) addApprovers(ctx context.Context) error {
	for _, name := range []string{"anna", "bert"} {
		made, err := pawlv1.NewTokenServiceClient(c.replicas[0].conn).CreateToken(ctx, &pawlv1.CreateTokenRequest{
			Name:      name,
			Principal: &pawlv1.CreateTokenRequest_Client{Client: &pawlv1.Client{Role: pawlv1.Role_ROLE_APPROVER}},
		})
		if err != nil {
			return fmt.Errorf("making the token of %s: %w", name, err)
		}
		a := &approver{name: name, token: made.GetSecret()}
		for _, r := range c.replicas {
			conn, err := c.dial(r, rpc.Static(a.token))
			if err != nil {
				return err
			}
			a.conns = append(a.conns, conn)
		}
		c.approvers = append(c.approvers, a)
	}
	return nil
}

// deciders decide what waits for approval, as the plan says, at any replica, over gRPC and HTTP.
type deciders struct {
	cluster *cluster
	clients *clients
	patient context.Context // who has begun to decide goes on until this ends

	mu    sync.Mutex // guards what follows
	begun map[string]bool
	said  []check.Decision
}

// run looks for approvals until ctx ends, and returns when everybody has decided.
func (d *deciders) run(ctx context.Context, r *rand.Rand) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		who := d.cluster.approvers[r.IntN(len(d.cluster.approvers))]
		for _, a := range d.open(ctx, who, r) {
			d.mu.Lock()
			known := d.begun[a.GetApprovalId()]
			d.begun[a.GetApprovalId()] = true
			d.mu.Unlock()
			if !known {
				d.decide(&wg, a, rand.New(rand.NewPCG(r.Uint64(), 1)))
			}
		}
		wait(ctx, between(r, 20*time.Millisecond, 300*time.Millisecond))
	}
}

// open lists what waits, at some replica.
func (d *deciders) open(ctx context.Context, who *approver, r *rand.Rand) (all []*pawlv1.Approval) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	at := r.IntN(len(d.cluster.replicas))
	var res pawlv1.ListApprovalsResponse
	if r.IntN(2) == 0 {
		if d.over(ctx, who, at, http.MethodGet, "/v1/approvals?state=APPROVAL_STATE_OPEN", nil, &res) != nil {
			return nil
		}
		return res.GetApprovals()
	}
	got, err := pawlv1.NewApprovalServiceClient(who.conns[at]).ListApprovals(ctx, &pawlv1.ListApprovalsRequest{
		State: pawlv1.ApprovalState_APPROVAL_STATE_OPEN,
	})
	if err != nil {
		return nil
	}
	return got.GetApprovals()
}

// decide has decided about an approval what the plan says.
func (d *deciders) decide(wg *sync.WaitGroup, a *pawlv1.Approval, r *rand.Rand) {
	text, err := protojson.Marshal(a.GetArguments())
	if err != nil {
		return
	}
	what := d.clients.verdict(marker.FindString(string(text)))
	anna, bert := d.cluster.approvers[0], d.cluster.approvers[1]
	voices := map[string][]voice{
		decideYes: {{anna, true}}, decideNo: {{bert, false}}, decideBoth: {{anna, true}, {bert, false}},
		decideTwice: {{anna, true}, {anna, true}},
	}[what]
	pause := between(r, 0, time.Second)
	for _, v := range voices {
		own := rand.New(rand.NewPCG(r.Uint64(), 2))
		wg.Go(func() {
			wait(d.patient, pause)
			d.speak(v, a, own)
		})
	}
}

// voice is who decides what.
type voice struct {
	who *approver
	yes bool
}

// speak decides until there is an answer: nobody knows what became of a request that was not answered.
func (d *deciders) speak(v voice, a *pawlv1.Approval, r *rand.Rand) {
	said := check.Decision{Approval: a.GetApprovalId(), Verdict: "denied"}
	req := &pawlv1.DecideApprovalRequest{
		ApprovalId: a.GetApprovalId(), Digest: a.GetDigest(), Comment: v.who.name,
		Verdict: pawlv1.DecideApprovalRequest_VERDICT_DENY,
	}
	if v.yes {
		said.Verdict, req.Verdict = "approved", pawlv1.DecideApprovalRequest_VERDICT_APPROVE
	}
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.said = append(d.said, said)
	}()
	for d.patient.Err() == nil {
		ctx, cancel := context.WithTimeout(d.patient, between(r, 200*time.Millisecond, 3*time.Second))
		res, err := d.send(ctx, v.who, req, r)
		cancel()
		switch {
		case err == nil:
			said.Told, said.First = stateName(res.GetApproval().GetState()), !res.GetReplayed()
			return
		case errors.As(err, new(*refusal)):
			said.Told = refusedWith(err)
			return
		}
		wait(d.patient, between(r, 20*time.Millisecond, 300*time.Millisecond))
	}
}

func stateName(s pawlv1.ApprovalState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "APPROVAL_STATE_"))
}

// refusal is an answer that says why there is no decision.
type refusal struct{ reason, state string }

// Error implements error.
func (r *refusal) Error() string { return r.reason }

// refusedWith is the state that a refusal tells, or its reason if that is another one than that it has been decided.
func refusedWith(err error) string {
	var r *refusal
	if errors.As(err, &r) && r.reason == "APPROVAL_DECIDED" {
		return r.state
	}
	return "refused: " + err.Error()
}

// final are the reasons after which asking again is of no use.
var final = []string{
	"APPROVAL_DECIDED", "APPROVAL_NOT_FOUND", "APPROVAL_DIGEST", "APPROVAL_OTHER", "APPROVAL_ROLE", "APPROVAL_INVALID",
}

// send decides at some replica, over gRPC or HTTP.
func (d *deciders) send(
	ctx context.Context, who *approver, req *pawlv1.DecideApprovalRequest, r *rand.Rand,
) (*pawlv1.DecideApprovalResponse, error) {
	at := r.IntN(len(d.cluster.replicas))
	if r.IntN(2) == 0 {
		var res pawlv1.DecideApprovalResponse
		err := d.over(ctx, who, at, http.MethodPost, "/v1/approvals/"+req.GetApprovalId()+":decide", req, &res)
		return &res, err
	}
	res, err := pawlv1.NewApprovalServiceClient(who.conns[at]).DecideApproval(ctx, req)
	if e, ok := errs.Public(rpc.FromStatus(err)); ok && slices.Contains(final, e.Reason()) {
		return nil, &refusal{e.Reason(), e.Facts()["state"]}
	}
	return res, err
}

// over speaks HTTP.
func (d *deciders) over(
	ctx context.Context, who *approver, at int, method, path string, in, out proto.Message,
) error {
	body := []byte(nil)
	if in != nil {
		var err error
		if body, err = protojson.Marshal(in); err != nil {
			return err
		}
	}
	url := "http://" + d.cluster.replicas[at].frontHTTP.Addr() + path
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+who.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // of a response that was read
	var answer json.RawMessage
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if res.StatusCode == http.StatusOK {
		return protojson.Unmarshal(answer, out)
	}
	var problem struct {
		Error struct {
			Reason  string
			Details map[string]string
		}
	}
	if err := json.Unmarshal(answer, &problem); err != nil {
		return err
	}
	if slices.Contains(final, problem.Error.Reason) {
		return &refusal{problem.Error.Reason, problem.Error.Details["state"]}
	}
	return fmt.Errorf("%s %s: %s", method, path, problem.Error.Reason)
}
