package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/mcp"
)

// silent is a server of tokens that takes requests and answers none.
type silent struct{ asked atomic.Int32 }

func (s *silent) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Who does not want a token any more leaves, and is not waited for. A server that says nothing is waited for by all
// others, together, and no longer than tokenTimeout.
func TestAServerOfTokensThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t.Context(), egress.Client{}, &mcp.HTTP{OAuth: &mcp.OAuth{TokenURL: "https://a.test/"}})
		server := &silent{}
		tokens.client = &http.Client{Transport: server}
		type answer struct {
			err   error
			after time.Duration
		}
		begun := time.Now()
		ask := func(ctx context.Context) chan answer {
			came := make(chan answer, 1)
			go func() {
				_, err := tokens.token(ctx)
				came <- answer{err, time.Since(begun)}
			}()
			synctest.Wait()
			return came
		}
		first, leave := context.WithCancel(t.Context())
		left := ask(first)
		other, patient := ask(t.Context()), ask(t.Context())
		time.Sleep(time.Second)
		leave()
		if a := <-left; !errors.Is(a.err, context.Canceled) || a.after != time.Second {
			t.Errorf("who has left is told %v after %s", a.err, a.after)
		}
		for _, came := range []chan answer{other, patient} {
			if a := <-came; !errors.Is(a.err, errToken) || a.after != tokenTimeout ||
				!strings.Contains(a.err.Error(), "did not answer within 8s") {
				t.Errorf("who has waited is told %v after %s", a.err, a.after)
			}
		}
		const each = 2 // the library tries two ways to tell who it is
		if n := server.asked.Load(); n != each {
			t.Errorf("asked %d times", n)
		}
		<-ask(t.Context())
		if n := server.asked.Load(); n != 2*each {
			t.Errorf("asked %d times in all", n)
		}
	})
}

// granting gives a new token for every request.
type granting struct{ given int }

func (g *granting) RoundTrip(*http.Request) (*http.Response, error) {
	g.given++
	body := fmt.Sprintf(`{"access_token": "access-token-%d", "token_type": "bearer", "expires_in": 3600}`, g.given)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

// The tokens that are told apart for redaction are the last ones, so that they do not grow without end.
func TestTokensThatAServerMayRepeatAreBounded(t *testing.T) {
	tokens := newTokens(t.Context(), egress.Client{}, &mcp.HTTP{OAuth: &mcp.OAuth{TokenURL: "https://a.test/"}})
	tokens.client = &http.Client{Transport: &granting{}}
	last := ""
	for range 2 * tokensKept {
		token, err := tokens.token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tokens.refused(token)
		last = token
	}
	if all := tokens.secrets(); len(all) != tokensKept || all[tokensKept-1] != last {
		t.Errorf("%d are kept, the last one is %s of %s", len(all), all[len(all)-1], last)
	}
}
