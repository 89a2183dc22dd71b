package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/replica"
)

// fakePeer is another replica.
type fakePeer struct {
	peerv1.UnimplementedPeerServiceServer
	hangs bool

	mu  sync.Mutex // guards got
	got []string
}

func (f *fakePeer) Deliver(ctx context.Context, req *peerv1.DeliverRequest) (*peerv1.DeliverResponse, error) {
	f.mu.Lock()
	f.got = append(f.got, fmt.Sprintf("%s %d", req.GetLaneId(), req.GetFrame().GetOutput().GetOffset()))
	f.mu.Unlock()
	if f.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &peerv1.DeliverResponse{}, nil
}

func (f *fakePeer) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// placed says where sessions are: each at the replica of its name.
type placed struct{}

func (placed) OwnerOf(_ context.Context, session string) (replica.Replica, bool, error) {
	return replica.Replica{ID: session, Addr: session}, true, nil
}

// counted are Owners that count how often they are asked, and know of none when nobody is set.
type counted struct {
	nobody bool
	times  int
}

func (c *counted) OwnerOf(ctx context.Context, lane string) (replica.Replica, bool, error) {
	c.times++
	r, _, err := placed{}.OwnerOf(ctx, lane)
	return r, !c.nobody, err
}

// An owner is believed in for a while, and that there is none for a shorter one.
func TestOwnersAreLookedForNowAndThen(t *testing.T) {
	for nobody, keep := range map[bool]time.Duration{false: ownerFor, true: nobodyFor} {
		synctest.Test(t, func(t *testing.T) {
			owners := &counted{nobody: nobody}
			p := startClient(t, map[string]*fakePeer{"well": {}})
			p.owners = owners
			for range 3 {
				for range 100 {
					p.Deliver("x", "well", output(0))
					synctest.Wait()
					time.Sleep(keep / 100)
				}
			}
			if owners.times != 3 {
				t.Errorf("there is no owner: %v; 300 frames cost %d queries, want 3", nobody, owners.times)
			}
		})
	}
}

// startClient runs a Client that reaches the replicas, by address.
func startClient(t *testing.T, replicas map[string]*fakePeer) *Client {
	listeners := map[string]*bufconn.Listener{}
	for addr, f := range replicas {
		l, s := bufconn.Listen(1<<16), grpc.NewServer()
		peerv1.RegisterPeerServiceServer(s, f)
		listeners[addr] = l
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		t.Cleanup(func() {
			s.Stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
	p := NewClient(placed{}, func() string { return "self" }, func(addr string) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn,
				error,
			) {
				return listeners[addr].DialContext(ctx)
			}))
	}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func output(offset int64) *pawlv1.ConnectRequest {
	return &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Output{Output: &pawlv1.Output{Offset: offset}}}
}

// A replica that hangs delays nobody but itself, and frames of a session keep their order.
func TestHungPeerDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung, well := &fakePeer{hangs: true}, &fakePeer{}
		p := startClient(t, map[string]*fakePeer{"hung": hung, "well": well})
		began := time.Now()
		var want []string
		for i := range int64(100) {
			p.Deliver("x", "hung", output(i))
			p.Deliver("x", "well", output(i))
			want = append(want, fmt.Sprint("well ", i))
		}
		synctest.Wait()
		if got := well.told(); !slices.Equal(got, want) {
			t.Errorf("the replica that is well was told %q", got)
		}
		if waited := time.Since(began); waited != 0 || len(hung.told()) != 1 {
			t.Errorf("after %s the hung one was told %q", waited, hung.told())
		}
		time.Sleep(Timeout * 5 / 2)
		if got := hung.told(); !slices.Equal(got, []string{"hung 0", "hung 1", "hung 2"}) {
			t.Errorf("the hung replica was told %q", got)
		}
	})
}

// What waits for a replica that hangs is bounded: the rest is left to its owners.
func TestRelayIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &fakePeer{hangs: true}
		p := startClient(t, map[string]*fakePeer{"hung": hung})
		for i := range int64(3 * relayLimit) {
			p.Deliver("x", "hung", output(i))
			synctest.Wait()
		}
		time.Sleep(Timeout * 4 * relayLimit)
		if n := len(hung.told()); n != relayLimit+1 {
			t.Errorf("%d frames were kept for it, want %d", n, relayLimit+1)
		}
	})
}

// Connections to replicas that are gone do not pile up: each start of one may have another address.
func TestConnectionsToFormerReplicasAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas := map[string]*fakePeer{}
		for i := range 50 {
			replicas[fmt.Sprint("r", i)] = &fakePeer{}
		}
		p := startClient(t, replicas)
		most := 0
		for addr, r := range replicas {
			p.Deliver("x", addr, output(0))
			synctest.Wait()
			if len(r.told()) != 1 {
				t.Errorf("%s was not told", addr)
			}
			time.Sleep(time.Hour)
			p.mu.Lock()
			most = max(most, len(p.conns))
			p.mu.Unlock()
		}
		if most > 2 {
			t.Errorf("%d connections are kept", most)
		}
	})
}

// relaying reports whether a relay to some replica runs.
func relaying() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "(*Client).serve(")
}

// A relay that has nothing to do ends, and another begins when there is something again.
func TestIdleRelayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well := &fakePeer{}
		p := startClient(t, map[string]*fakePeer{"well": well})
		for i := range int64(3) {
			p.Deliver("x", "well", output(i))
			synctest.Wait()
			if !relaying() {
				t.Error("nobody relays")
			}
			time.Sleep(2 * relayIdle)
			if relaying() {
				t.Error("the relay lives on with nothing to do")
			}
		}
		if got := well.told(); !slices.Equal(got, []string{"well 0", "well 1", "well 2"}) {
			t.Errorf("told %q", got)
		}
	})
}
