package api_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// Pages of agents, put together, are all agents that the caller may see, in order.
func TestPagesOfAgents(t *testing.T) {
	f := start(t, hello())
	c := pawlv1.NewAgentServiceClient(f.operator(t))
	whole, err := c.ListAgents(t.Context(), &pawlv1.ListAgentsRequest{})
	if err != nil || whole.GetNextPageToken() != "" || len(whole.GetAgents()) < 3 {
		t.Fatalf("%v, %v", whole, err)
	}
	for size := int32(1); int(size) <= len(whole.GetAgents())+1; size++ {
		var got, want []string
		for _, a := range whole.GetAgents() {
			want = append(want, a.GetName())
		}
		for token, first := "", true; first || token != ""; first = false {
			page, err := c.ListAgents(t.Context(), &pawlv1.ListAgentsRequest{PageSize: size, PageToken: token})
			if err != nil || len(page.GetAgents()) > int(size) {
				t.Fatalf("%v, %v", page, err)
			}
			for _, a := range page.GetAgents() {
				got = append(got, a.GetName())
			}
			token = page.GetNextPageToken()
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", size, got, want)
		}
	}
	for _, size := range []int32{-1, 1001} {
		if _, err := c.ListAgents(
			t.Context(),
			&pawlv1.ListAgentsRequest{PageSize: size},
		); rpc.Reason(
			err,
		) != "PAGE_SIZE" {
			t.Errorf("%d: %v", size, err)
		}
	}
	x := pawlv1.NewExecutorServiceClient(f.operator(t))
	for token, want := range map[string]int{"": 1, "gpu0": 1, "gpu1": 0, "zzz": 0} {
		page, err := x.ListExecutors(t.Context(), &pawlv1.ListExecutorsRequest{PageSize: 1, PageToken: token})
		if err != nil || len(page.GetExecutors()) != want || page.GetNextPageToken() != "" {
			t.Errorf("%q: %v, %v", token, page, err)
		}
	}
}

// Who names an agent that there is not is told which there are, of those that he may know of.
func TestUnknownAgent(t *testing.T) {
	f := start(t, hello())
	limited := f.as(t, auth.Token{Kind: auth.Client, Limits: auth.Limits{Agents: []string{"other"}}})
	for name, c := range map[string]struct {
		conn pawlv1.SubmissionServiceClient
		want string
	}{
		"operator": {
			pawlv1.NewSubmissionServiceClient(f.operator(t)), ", other, placed, reader, shell, writer; ",
		},
		"limited client": {pawlv1.NewSubmissionServiceClient(limited), "; agents: other; "},
	} {
		_, err := c.conn.Submit(
			t.Context(),
			&pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "nobody", Instance: "i"}, Message: "x"},
		)
		text := status.Convert(err).Message()
		if status.Code(err) != codes.NotFound || !strings.HasPrefix(text, `no such agent: "nobody"; agents: `) ||
			!strings.Contains(text, c.want) || !strings.Contains(text, "`control agents reload`") {
			t.Errorf("%s: %v", name, err)
		}
		stream, err := c.conn.Prompt(
			t.Context(),
			&pawlv1.PromptRequest{Key: &pawlv1.SessionKey{Agent: "nobody", Instance: "i"}, Message: "x"},
		)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Convert(err).Message() != text {
			t.Errorf("%s: %v, want %s", name, err, text)
		}
	}
}
