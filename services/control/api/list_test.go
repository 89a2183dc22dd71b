package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/model/offline"
)

// pages is what all pages have, of which each tells the token of the next one.
func pages(t *testing.T, page func(token string) (items []string, next string, err error)) (all [][]string) {
	t.Helper()
	for token, more := "", true; more; more = token != "" {
		items, next, err := page(token)
		if err != nil {
			t.Fatal(err)
		}
		all, token = append(all, items), next
	}
	return all
}

// Pages of submissions hold all of a session's, newest first, none twice. The last one says that it is.
func TestSubmissionPages(t *testing.T) {
	f := start(t, nil) // they stay queued
	c := pawlv1.NewSubmissionServiceClient(f.operator(t))
	var id string
	for range 5 {
		got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		id = got.GetSubmission().GetSessionId()
	}
	for _, test := range []struct {
		size   int32
		before int64
		want   string
	}{
		{2, 0, "[[5 4] [3 2] [1]]"},
		{5, 0, "[[5 4 3 2 1]]"},
		{0, 0, "[[5 4 3 2 1]]"},
		{2, 4, "[[3 2] [1]]"},
		{1, 3, "[[2] [1]]"},
		{2, 1, "[[]]"},
	} {
		got := pages(t, func(token string) (seqs []string, next string, err error) {
			res, err := c.ListSubmissions(t.Context(), &pawlv1.ListSubmissionsRequest{
				SessionId: id, PageSize: test.size, PageToken: token, Before: test.before,
			})
			for _, s := range res.GetSubmissions() {
				seqs = append(seqs, fmt.Sprint(s.GetSeq()))
			}
			return seqs, res.GetNextPageToken(), err
		})
		if fmt.Sprint(got) != test.want {
			t.Errorf("pages of %d before %d are %v, want %s", test.size, test.before, got, test.want)
		}
	}
	for reason, req := range map[string]*pawlv1.ListSubmissionsRequest{
		"PAGE_TOKEN": {SessionId: id, PageToken: "x"}, "BEFORE": {SessionId: id, Before: -1},
		"PAGE_SIZE": {SessionId: id, PageSize: -1},
	} {
		if _, err := c.ListSubmissions(t.Context(), req); rpc.Reason(err) != reason {
			t.Errorf("%v is answered with %v, want %s", req, err, reason)
		}
	}
}

func TestTokenPages(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewTokenServiceClient(f.operator(t))
	for i := range 4 {
		_, _, err := f.auth.Mint(t.Context(), auth.Token{Kind: auth.Client, Name: fmt.Sprint("t", i)}, 0)
		if err != nil {
			t.Fatal(err)
		}
	}
	got := pages(t, func(token string) (names []string, next string, err error) {
		res, err := c.ListTokens(t.Context(), &pawlv1.ListTokensRequest{PageSize: 2, PageToken: token})
		for _, one := range res.GetTokens() {
			names = append(names, one.GetName())
		}
		return names, res.GetNextPageToken(), err
	})
	if fmt.Sprint(got) != "[[t3 t2] [t1 t0] []]" { // the operator's own has no name
		t.Errorf("the pages are %q", got)
	}
	if _, err := c.ListTokens(t.Context(), &pawlv1.ListTokensRequest{PageToken: "x"}); rpc.Reason(err) != "PAGE_TOKEN" {
		t.Errorf("a bad token is answered with %v", err)
	}
}

// The conversations of sub-agents are listed by the session that they work for, and tell it. Other lists have none.
func TestSessionsOfSubAgents(t *testing.T) {
	f := start(t, offline.New())
	submissions := pawlv1.NewSubmissionServiceClient(f.operator(t))
	c := pawlv1.NewSessionServiceClient(f.operator(t))
	got, err := submissions.Submit(t.Context(), &pawlv1.SubmitRequest{
		Key: key, Message: "task: task: say: deep\n& task: say: one",
	})
	if err != nil {
		t.Fatal(err)
	}
	root := got.GetSubmission().GetSessionId()
	if _, err := submissions.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{
		SubmissionId: got.GetSubmission().GetSubmissionId(),
	}); err != nil {
		t.Fatal(err)
	}
	list := func(req *pawlv1.ListSessionsRequest) (found []*pawlv1.Session) {
		t.Helper()
		for token, more := "", true; more; more = token != "" {
			req.PageSize, req.PageToken = 1, token
			res, err := c.ListSessions(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			found, token = append(found, res.GetSessions()...), res.GetNextPageToken()
		}
		return found
	}
	all := list(&pawlv1.ListSessionsRequest{})
	if len(all) != 1 || all[0].GetSessionId() != root || all[0].GetParentSessionId() != "" {
		t.Errorf("without a parent %v are listed", all)
	}
	below := 0
	for _, child := range list(&pawlv1.ListSessionsRequest{ParentSessionId: root}) {
		same, err := c.GetSession(t.Context(), &pawlv1.GetSessionRequest{
			Session: &pawlv1.GetSessionRequest_SessionId{SessionId: child.GetSessionId()},
		})
		if err != nil || child.GetParentSessionId() != root || child.GetParentCallId() == "" ||
			same.GetSession().GetParentCallId() != child.GetParentCallId() {
			t.Errorf("the child is %v, %v, %v", child, same, err)
		}
		_, err = submissions.AbortSession(t.Context(), &pawlv1.AbortSessionRequest{SessionId: child.GetSessionId()})
		if rpc.Reason(err) != "SUB_AGENT_SESSION" {
			t.Errorf("the child is aborted: %v", err)
		}
		below += len(list(&pawlv1.ListSessionsRequest{ParentSessionId: child.GetSessionId()}))
	}
	if n := len(list(&pawlv1.ListSessionsRequest{ParentSessionId: root})); n != 2 || below != 1 {
		t.Errorf("%d children and %d of theirs are listed, want 2 and 1", n, below)
	}
	// Whoever may not read a session is not told of its sub-agents.
	of := func(agent string) pawlv1.SessionServiceClient {
		limits := auth.Limits{Agents: []string{agent}}
		return pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Limits: limits}))
	}
	limited := of("other")
	_, err = limited.ListSessions(t.Context(), &pawlv1.ListSessionsRequest{ParentSessionId: root})
	if status.Code(err) != codes.NotFound {
		t.Errorf("another agent's client is answered with %v", err)
	}
	allowed := of("shell")
	res, err := allowed.ListSessions(t.Context(), &pawlv1.ListSessionsRequest{ParentSessionId: root})
	if err != nil || len(res.GetSessions()) != 2 || !slices.IsSortedFunc(res.GetSessions(), newestFirst) {
		t.Errorf("the agent's client is answered with %v, %v", res, err)
	}
}

// newestFirst is the order of ids.
func newestFirst(a, b *pawlv1.Session) int {
	return strings.Compare(b.GetSessionId(), a.GetSessionId())
}
