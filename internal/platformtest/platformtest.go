// Package platformtest runs the whole platform in one process for tests: control and executors as their programs run
// them, a database in memory, real gRPC and HTTP over in-memory connections. Inside a testing/synctest bubble all of it
// is on fake time.
//
//	Cluster ─┬─ Platform: a replica ── Database: what it sees of the store; a test strikes at every Step
//	         ├─ Machine: a host that executes calls ── Wire: its network; Disk: its journal; worktest.Box: its commands
//	         └─ Store: the truth
//
// Kill is SIGKILL: what dies writes nothing and says nothing from then on, whatever its goroutines still do.
package platformtest

import (
	"context"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/store"
)

// Platform is a replica of the control plane that runs.
type Platform struct {
	Name string
	// GRPC is a connection with the operator's token.
	GRPC *grpc.ClientConn
	// HTTP reaches the gateway; URLs begin with http://localhost.
	HTTP *http.Client
	// Token is the operator's.
	Token string
	// DB is the database as the replica sees it.
	DB *Database

	grpc       *bufconn.Listener
	web        *lobby
	rpcs, webs *host
	stop       context.CancelFunc
	done       chan struct{}
	err        error // of Run; after done
	killed     bool
}

// Models resolves offline models.
type Models struct{}

// Model implements loop.Models.
func (Models) Model(ref model.Ref) (model.Model, error) {
	return offline.Open(model.Endpoint{}, ref.ID)
}

// Start runs a control plane with a database in memory until the test ends.
func Start(t testing.TB) *Platform { t.Helper(); return StartOn(t, nil) }

// StartOn runs a control plane on a database until the test ends, and closes the database then.
func StartOn(t testing.TB, db store.Store) *Platform {
	t.Helper()
	return New(t, Options{Store: db}).Start("control", nil)
}

// Strike kills the replica where it stands: it writes nothing and sends nothing from now on. It may be called from a
// step of the database. Its error is what the step comes to.
func (p *Platform) Strike() error {
	p.killed = true
	p.DB.die()
	p.rpcs.die()
	p.webs.die()
	return errDead
}

// Kill is Strike, and waits until nothing of the replica runs.
func (p *Platform) Kill() {
	_ = p.Strike()
	<-p.done
}

// Dead is closed when nothing of the replica runs.
func (p *Platform) Dead() <-chan struct{} { return p.done }

// Stop ends the replica as SIGTERM does: it drains.
func (p *Platform) Stop() {
	p.stop()
	<-p.done
}

// Freeze stops the replica's use of the database as SIGSTOP would, Thaw lets it go on, in the belief that no time has
// passed.
func (p *Platform) Freeze() { p.DB.freeze() }

// Thaw ends Freeze.
func (p *Platform) Thaw() { p.DB.thaw() }

// Dial makes a gRPC connection with a token; it is closed when the test ends, before the platform is.
func (p *Platform) Dial(t testing.TB, token string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///control", append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(token), Plaintext: true}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn,
			error,
		) {
			return p.grpc.DialContext(ctx)
		}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}
