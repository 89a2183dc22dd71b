package rpc

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/pawl-dev/pawl/internal/errs"
)

const (
	// maxCalls and maxCallsOfSource are how many calls may be under way, and how many from one address.
	maxCalls         = 1 << 16
	maxCallsOfSource = 10_000
)

// ErrTooManyCalls refuses a call.
var ErrTooManyCalls = errs.New(errs.ResourceExhausted, "TOO_MANY_CALLS",
	"too many calls are under way; end some, or call again in a moment")

// counter counts calls under way.
type counter struct {
	most, mostOfSource int

	mu      sync.Mutex // guards what follows
	total   int
	sources map[string]int
}

func newCounter(most, mostOfSource int) *counter {
	return &counter{most: most, mostOfSource: mostOfSource, sources: map[string]int{}}
}

// enter counts a call until leave is called; ok is false when there are too many. What comes from no address, as within
// this process, is not limited by it.
func (c *counter) enter(source string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= c.most || source != "" && c.sources[source] >= c.mostOfSource {
		return nil, false
	}
	c.total++
	c.sources[source]++
	return func() { c.leave(source) }, true
}

func (c *counter) leave(source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.sources[source]--; c.sources[source] == 0 {
		delete(c.sources, source)
	}
}

// Source is the address of the host that a call comes from, "" when it has none.
func Source(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	return SourceOf(p.Addr.String())
}

// Origin is Source. Of a call within this process it is the address that the process says it calls for, if any.
func Origin(ctx context.Context) string {
	if source := Source(ctx); source != "" {
		return source
	}
	if v := metadata.ValueFromIncomingContext(ctx, SourceKey); len(v) == 1 {
		return v[0]
	}
	return ""
}

// IsPart reports whether a call within this process is part of a request that has been counted, see PartKey.
func IsPart(ctx context.Context) bool {
	return Source(ctx) == "" && len(metadata.ValueFromIncomingContext(ctx, PartKey)) > 0
}

// SourceOf is the host in host:port, "" when there is none.
func SourceOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return host
}
