package provider

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/pawl-dev/pawl/services/control/model"
)

// identity proves to a cloud who asks. Safe for concurrent use.
type identity interface {
	// prove adds to a request's header what proves who asks. The header is the request's own. Its error is a
	// *identityError or the context's.
	prove(ctx context.Context, r *http.Request, body [][]byte) error
	// forget drops what was kept, after the server has refused it. It reports whether something else may be had now.
	forget(r *http.Request) bool
	// secrets are those that requests carry now.
	secrets() []model.Secret
}

// identityError says why nobody can be proven to ask.
type identityError struct {
	text      string
	retryable bool
}

// Error implements error.
func (e *identityError) Error() string { return e.text }

// issueWait is how long a server that issues tokens or credentials is waited for.
const issueWait = 30 * time.Second

// identities are those of all clouds, so that models share their tokens.
type identities struct {
	base http.RoundTripper
	aws  aws.HTTPClient // by which AWS's module asks for credentials

	mu  sync.Mutex // guards what follows
	all map[model.Cloud]identity
}

// of is the identity with which an endpoint is called, nil when it is called with a key, or with none.
func (s *identities) of(e model.Endpoint) (identity, error) {
	if e.Cloud.Kind == "" || e.Key != "" {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.all[e.Cloud]; ok {
		return found, nil
	}
	var made identity
	switch {
	case e.Cloud.Kind == model.Vertex:
		made = newBearer(s.base, googleToken)
	case e.Cloud.Kind == model.Azure && e.Cloud.Entra:
		made = newBearer(s.base, entraToken)
	case e.Cloud.Kind == model.Bedrock:
		made = &signature{
			client: s.aws, region: e.Cloud.Region, profile: e.Cloud.Profile, turn: make(chan struct{}, 1),
		}
	default:
		return nil, nil
	}
	if s.all == nil {
		s.all = map[model.Cloud]identity{}
	}
	s.all[e.Cloud] = made // as many as the configuration has clouds
	return made, nil
}
