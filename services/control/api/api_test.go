package api_test

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func TestBadRequests(t *testing.T) {
	f := start(t, hello())
	sub := f.answered(t)
	conn := f.operator(t)
	ss, sm, tk := pawlv1.NewSessionServiceClient(
		conn,
	), pawlv1.NewSubmissionServiceClient(
		conn,
	), pawlv1.NewTokenServiceClient(
		conn,
	)
	ctx := t.Context()
	for want, calls := range map[string][]func() error{
		"SESSION_NOT_FOUND": {
			func() error { _, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{}); return err },
			func() error {
				_, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_SessionId{SessionId: "'; drop"}})
				return err
			},
			func() error {
				_, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_SessionId{SessionId: ident.New()}})
				return err
			},
			func() error {
				_, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_Key{Key: &pawlv1.SessionKey{}}})
				return err
			},
			func() error {
				_, err := ss.ListEntries(ctx, &pawlv1.ListEntriesRequest{SessionId: "x"})
				return err
			},
			func() error {
				_, err := sm.AbortSession(ctx, &pawlv1.AbortSessionRequest{})
				return err
			},
		},
		"SUBMISSION_NOT_FOUND": {
			func() error {
				_, err := sm.GetSubmission(ctx, &pawlv1.GetSubmissionRequest{SubmissionId: "x"})
				return err
			},
			func() error {
				_, err := sm.AbortSubmission(ctx, &pawlv1.AbortSubmissionRequest{})
				return err
			},
		},
		"AGENT_NOT_FOUND": {
			func() error {
				_, err := sm.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "nope", Instance: "i"}})
				return err
			},
		},
		"MESSAGE_EMPTY": {
			func() error {
				_, err := sm.Submit(ctx, &pawlv1.SubmitRequest{Key: key})
				return err
			},
			func() error {
				stream, err := sm.Prompt(ctx, &pawlv1.PromptRequest{Key: key, Message: " \n"})
				if err == nil {
					_, err = stream.Recv()
				}
				if e, _ := errs.Public(rpc.FromStatus(err)); e == nil || e.Facts()["field"] != "message" {
					t.Errorf("which field is not said: %v", err)
				}
				return err
			},
		},
		"INVALID_NAME": {
			func() error { _, err := sm.Submit(ctx, &pawlv1.SubmitRequest{}); return err },
			func() error {
				_, err := sm.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "shell", Instance: " "}})
				return err
			},
			func() error {
				_, err := sm.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{
					Agent: "shell", Instance: "i",
					Session: "task:1",
				}})
				return err
			},
			func() error {
				_, err := tk.CreateToken(ctx, &pawlv1.CreateTokenRequest{Principal: &pawlv1.CreateTokenRequest_Executor{}})
				return err
			},
		},
		"TOKEN_INVALID": {
			func() error { _, err := tk.CreateToken(ctx, &pawlv1.CreateTokenRequest{}); return err },
			func() error {
				_, err := tk.CreateToken(ctx, &pawlv1.CreateTokenRequest{Principal: &pawlv1.CreateTokenRequest_Operator{}, ExpiresIn: durationpb.New(-1)})
				return err
			},
		},
		"PAGE_SIZE": {
			func() error { _, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{PageSize: -1}); return err },
			func() error {
				_, err := ss.ListEntries(ctx, &pawlv1.ListEntriesRequest{SessionId: sub.GetSessionId(), PageSize: 1001})
				return err
			},
		},
		"PAGE_TOKEN": {
			func() error { _, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{PageToken: "x"}); return err },
		},
	} {
		for i, call := range calls {
			if err := call(); rpc.Reason(err) != want {
				t.Errorf("%s %d: %v", want, i, err)
			}
		}
	}
}

// What a database may refuse is refused before it, by the field's name.
func TestTextsThatNoRowHas(t *testing.T) {
	f := start(t, hello())
	conn, ctx := f.operator(t), t.Context()
	ss := pawlv1.NewSessionServiceClient(conn)
	for field, try := range map[string]func(s string) error{
		"key.agent": func(s string) error { return getKey(ctx, ss, &pawlv1.SessionKey{Agent: s, Instance: "i"}) },
		"key.instance": func(s string) error {
			return getKey(ctx, ss, &pawlv1.SessionKey{
				Agent:    "shell",
				Instance: s,
			})
		},
		"key.session": func(s string) error {
			return getKey(ctx, ss, &pawlv1.SessionKey{Agent: "shell", Instance: "i", Session: s})
		},
		"agent must": func(s string) error {
			_, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{Agent: s})
			return err
		},
		"instance must": func(s string) error {
			_, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{Instance: s})
			return err
		},
		"executor_id must": func(s string) error {
			_, err := pawlv1.NewExecutorServiceClient(conn).GetExecutor(ctx, &pawlv1.GetExecutorRequest{ExecutorId: s})
			return err
		},
		"target.executor_id": func(s string) error {
			_, err := pawlv1.NewFileServiceClient(conn).Stat(ctx, &pawlv1.StatRequest{
				Path:   "f",
				Target: &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: s}},
			})
			return err
		},
		"a token's name": func(s string) error {
			_, err := pawlv1.NewTokenServiceClient(conn).CreateToken(ctx,
				&pawlv1.CreateTokenRequest{Name: s, Principal: &pawlv1.CreateTokenRequest_Operator{}})
			return err
		},
	} {
		for _, s := range []string{"a\x00b", "a\nb", "\x1b[2J"} {
			if err := try(s); status.Code(err) != codes.InvalidArgument || rpc.Reason(err) != "INVALID_NAME" ||
				!strings.Contains(err.Error(), field) {
				t.Errorf("%s %q: %v", field, s, err)
			}
		}
	}
}

func getKey(ctx context.Context, c pawlv1.SessionServiceClient, k *pawlv1.SessionKey) error {
	_, err := c.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_Key{Key: k}})
	return err
}

func TestWaitEndsWithItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		c := pawlv1.NewSubmissionServiceClient(f.operator(t))
		got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		id := got.GetSubmission().GetSubmissionId()
		for _, timeout := range []time.Duration{math.MinInt64, -time.Second, 0, 1, 90 * time.Second} {
			begun := time.Now()
			res, err := c.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{
				SubmissionId: id,
				Timeout:      durationpb.New(timeout),
			})
			if err != nil || res.GetSubmission().GetStatus() != pawlv1.Submission_STATUS_QUEUED ||
				res.GetSubmission().GetSubmissionId() != id {
				t.Errorf("%v: %v, %v", timeout, res, err)
			}
			if took := time.Since(begun); took != max(0, timeout) {
				t.Errorf("%v took %v", timeout, took)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 { // before the deadline of the call, and after it
			res, err := c.WaitSubmission(ctx, &pawlv1.WaitSubmissionRequest{
				SubmissionId: id,
				Timeout:      durationpb.New(time.Hour),
			})
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%v, %v", res, err)
			}
		}
	})
}

// Pages of sessions hold what the caller may see, newest first, none twice, none left out.
func TestSessionPages(t *testing.T) {
	f := start(t, hello())
	for i := range 7 {
		a := []string{"shell", "other"}[i%2]
		if _, err := f.Submissions.Submit(t.Context(), submission.Input{Key: session.Key{
			Agent:    a,
			Instance: string(rune('a' + i)),
		}, Message: "hi"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		token auth.Token
		want  string
	}{
		{auth.Token{Kind: auth.Operator}, "gfedcba"},
		{auth.Token{Kind: auth.Client}, "gfedcba"},
		{auth.Token{Kind: auth.Client, Limits: auth.Limits{Agents: []string{"other"}}}, "fdb"},
		{auth.Token{Kind: auth.Client, Limits: auth.Limits{InstancePrefix: "c"}}, "c"},
		{auth.Token{Kind: auth.Client, Limits: auth.Limits{Agents: []string{"other"}, InstancePrefix: "c"}}, ""},
		{auth.Token{Kind: auth.Client, Limits: auth.Limits{Agents: []string{"shell", "other", "shell"}}}, "gfedcba"},
	} {
		c := pawlv1.NewSessionServiceClient(f.as(t, test.token))
		var got string
		for page := ""; ; {
			res, err := c.ListSessions(t.Context(), &pawlv1.ListSessionsRequest{PageSize: 2, PageToken: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range res.GetSessions() {
				got += s.GetKey().GetInstance()
			}
			if page = res.GetNextPageToken(); page == "" {
				break
			}
		}
		if got != test.want {
			t.Errorf("%+v: %s, want %s", test.token, got, test.want)
		}
	}
}

// A page and a batch stay below what clients take by default, whatever they hold.
func TestMessagesStaySmall(t *testing.T) {
	large := strings.Repeat("x", 900<<10)
	f := start(t, modeltest.Always(modeltest.Say(large)))
	for range 3 {
		f.answered(t)
	}
	sub := f.answered(t)
	c := pawlv1.NewSessionServiceClient(f.operator(t))
	seq := int64(0)
	for {
		page, err := c.ListEntries(t.Context(), &pawlv1.ListEntriesRequest{SessionId: sub.GetSessionId(), After: seq},
			grpc.MaxCallRecvMsgSize(2<<20))
		if err != nil {
			t.Fatal(err)
		}
		if len(page.GetEntries()) == 0 {
			break
		}
		for _, e := range page.GetEntries() {
			if seq++; e.GetSeq() != seq {
				t.Errorf("entry %d at %d", e.GetSeq(), seq)
			}
		}
	}
	if seq != 8 {
		t.Errorf("%d entries", seq)
	}
	one, err := f.Store.GetSession(t.Context(), session.DefaultTenant, sub.GetSessionId())
	if err != nil {
		t.Fatal(err)
	}
	watch, err := c.WatchSession(t.Context(), &pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId()},
		grpc.MaxCallRecvMsgSize(2<<20))
	if err != nil {
		t.Fatal(err)
	}
	for seq := int64(0); seq < one.EventHead; {
		m, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range m.GetEvents() {
			if seq++; e.GetSeq() != seq {
				t.Errorf("event %d at %d", e.GetSeq(), seq)
			}
		}
	}
}

func TestTokens(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewTokenServiceClient(f.operator(t))
	made, err := c.CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
		Name: "ci", Principal: &pawlv1.CreateTokenRequest_Client{Client: &pawlv1.Client{Agents: []string{"other"}}}, ExpiresIn: durationpb.New(time.Hour),
	})
	if err != nil || !strings.HasPrefix(made.GetSecret(), "pawl_c_") {
		t.Fatalf("%v, %v", made, err)
	}
	if tok := made.GetToken(); tok.GetClient().GetAgents()[0] != "other" ||
		tok.GetExpiresAt().AsTime().Sub(tok.GetCreatedAt().AsTime()) != time.Hour {
		t.Errorf("%v", tok)
	}
	agents, err := pawlv1.NewAgentServiceClient(f.conn(made.GetSecret())).ListAgents(t.Context(),
		&pawlv1.ListAgentsRequest{})
	if err != nil || len(agents.GetAgents()) != 1 {
		t.Errorf("%v, %v", agents, err)
	}
	all, err := c.ListTokens(t.Context(), &pawlv1.ListTokensRequest{})
	if err != nil || len(all.GetTokens()) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	b, err := proto.Marshal(all)
	if err != nil || bytes.Contains(b, []byte(made.GetSecret())) {
		t.Errorf("the list holds a secret, or %v", err)
	}
	for _, want := range []codes.Code{codes.OK, codes.NotFound} {
		id := made.GetToken().GetTokenId()
		if want == codes.NotFound {
			id = ident.New()
		}
		if _, err := c.RevokeToken(t.Context(), &pawlv1.RevokeTokenRequest{TokenId: id}); status.Code(err) != want {
			t.Errorf("%v", err)
		}
	}
}

// An admin makes, sees and revokes what is its own: clients of its tenant, within its own limits and life.
func TestAdminsManageTheirTenantsTokens(t *testing.T) {
	f := start(t, nil)
	if _, err := f.Store.CreateTenant(t.Context(), "theirs"); err != nil {
		t.Fatal(err)
	}
	admin := func(like auth.Token, life time.Duration) pawlv1.TokenServiceClient {
		like.Kind, like.Role = auth.Client, auth.Admin
		secret, _, err := f.auth.Mint(t.Context(), like, life)
		if err != nil {
			t.Fatal(err)
		}
		return pawlv1.NewTokenServiceClient(f.conn(secret))
	}
	plain, theirs := admin(auth.Token{}, 0), admin(auth.Token{Tenant: "theirs"}, 0)
	rate := auth.Rate{PerSecond: 100, Burst: 100}
	limits := auth.Limits{Agents: []string{"shell"}, InstancePrefix: "a", Rate: rate}
	limited := admin(auth.Token{Limits: limits}, time.Hour)
	wanted := func(c *pawlv1.Client) *pawlv1.CreateTokenRequest {
		return &pawlv1.CreateTokenRequest{
			Principal: &pawlv1.CreateTokenRequest_Client{Client: c}, ExpiresIn: durationpb.New(time.Minute),
		}
	}
	within := &pawlv1.Client{Agents: []string{"shell"}, InstancePrefix: "ab", Rate: &pawlv1.Rate{RequestsPerSecond: 1}}
	foreign := &pawlv1.Client{Agents: []string{"other"}, InstancePrefix: "a", Rate: within.GetRate()}
	wide := &pawlv1.Client{Agents: []string{"shell"}, Rate: within.GetRate()}
	fast := &pawlv1.Client{Agents: []string{"shell"}, InstancePrefix: "a"}
	forever, elsewhere := wanted(within), wanted(&pawlv1.Client{})
	forever.ExpiresIn, elsewhere.Tenant = nil, "theirs"
	operator := &pawlv1.CreateTokenRequest{Principal: &pawlv1.CreateTokenRequest_Operator{}}
	executor := &pawlv1.CreateTokenRequest{Principal: &pawlv1.CreateTokenRequest_Executor{
		Executor: &pawlv1.ExecutorPrincipal{ExecutorId: "e"},
	}}
	for name, c := range map[string]struct {
		by   pawlv1.TokenServiceClient
		req  *pawlv1.CreateTokenRequest
		want codes.Code
	}{
		"a client":                 {plain, wanted(&pawlv1.Client{Role: pawlv1.Role_ROLE_ADMIN}), codes.OK},
		"an operator":              {plain, operator, codes.PermissionDenied},
		"an executor":              {plain, executor, codes.PermissionDenied},
		"a client of another":      {plain, elsewhere, codes.PermissionDenied},
		"a role that is none":      {plain, wanted(&pawlv1.Client{Role: 99}), codes.InvalidArgument},
		"within":                   {limited, wanted(within), codes.OK},
		"without limits":           {limited, wanted(&pawlv1.Client{}), codes.PermissionDenied},
		"of another agent":         {limited, wanted(foreign), codes.PermissionDenied},
		"of another prefix":        {limited, wanted(wide), codes.PermissionDenied},
		"faster":                   {limited, wanted(fast), codes.PermissionDenied},
		"that outlives its maker":  {limited, forever, codes.PermissionDenied},
		"the other tenant's admin": {theirs, wanted(&pawlv1.Client{}), codes.OK},
	} {
		made, err := c.by.CreateToken(t.Context(), c.req)
		if status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil {
			continue
		}
		id := made.GetToken().GetTokenId()
		if name != "within" && sees(t, limited, id) || name != "the other tenant's admin" && !sees(t, plain, id) {
			t.Errorf("%s is seen by the wrong admins", name)
		}
		if _, err := theirs.RevokeToken(t.Context(), &pawlv1.RevokeTokenRequest{TokenId: id}); c.by != theirs &&
			status.Code(err) != codes.NotFound {
			t.Errorf("%s is revoked by another tenant: %v", name, err)
		}
	}
}

func sees(t *testing.T, c pawlv1.TokenServiceClient, id string) bool {
	t.Helper()
	all, err := c.ListTokens(t.Context(), &pawlv1.ListTokensRequest{Tenant: "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(all.GetTokens(), func(one *pawlv1.Token) bool { return one.GetTokenId() == id })
}

// A client that makes more requests than its token allows is told when to try again, and others go on.
func TestRate(t *testing.T) {
	f := start(t, nil)
	limited := auth.Token{Kind: auth.Client, Limits: auth.Limits{Rate: auth.Rate{PerSecond: 0.01, Burst: 3}}}
	c := pawlv1.NewAgentServiceClient(f.as(t, limited))
	for i := range 5 {
		_, err := c.ListAgents(t.Context(), &pawlv1.ListAgentsRequest{})
		switch {
		case i < 3 && err != nil:
			t.Errorf("request %d: %v", i, err)
		case i >= 3 && rpc.Reason(err) != "RATE_LIMITED":
			t.Errorf("request %d: %v", i, err)
		}
	}
	free := pawlv1.NewAgentServiceClient(f.as(t, auth.Token{Kind: auth.Client}))
	if _, err := free.ListAgents(t.Context(), &pawlv1.ListAgentsRequest{}); err != nil {
		t.Error(err)
	}
}
