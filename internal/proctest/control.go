package proctest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// Control is a control plane, or one replica of it, that can be started again and again at the same place.
type Control struct {
	// HTTP and GRPC are its addresses, Data its directory; all are NewControl's choice.
	HTTP, GRPC, Data string
	// Database is --database, by default a file in Data.
	Database string
	// Args are further flags.
	Args []string
	// Process is the present, or last, incarnation, and Log what it says.
	*Process
	Log *Log

	programs, home string
}

// NewControl is a control plane with its state below dir, which exists, of a program that was built into programs. It
// is not started yet.
func NewControl(programs, dir, database string, args ...string) (*Control, error) {
	c := &Control{Data: filepath.Join(dir, "control"), Database: database, Args: args, programs: programs, home: dir}
	if database == "" {
		c.Database = "sqlite:" + filepath.Join(c.Data, "pawl.db")
	}
	var err error
	if c.HTTP, err = FreeAddr(); err != nil {
		return nil, err
	}
	c.GRPC, err = FreeAddr()
	return c, err
}

// Start starts it and returns when it serves.
func (c *Control) Start(ctx context.Context) error {
	agents := filepath.Join(c.Data, "agents")
	err := os.MkdirAll(agents, 0o700)
	if err != nil {
		return err
	}
	c.Log = &Log{}
	c.Process, err = Start(filepath.Join(c.programs, "control"), append([]string{
		"--http", c.HTTP, "--grpc", c.GRPC, "--advertise", c.GRPC, "--data", c.Data, "--database", c.Database,
		"--agents", agents,
	}, c.Args...), c.home, c.Log)
	if err != nil {
		return err
	}
	if err := c.Log.Await(ctx, c.Process, "Try it:"); err != nil {
		return err
	}
	return c.Healthy(ctx)
}

// Healthy asks whether it serves.
func (c *Control) Healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.HTTP+"/healthz", nil)
	if err != nil {
		return err
	}
	req.Close = true // an idle connection would be this control plane's to close at its end
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz: %s", res.Status)
	}
	return nil
}

// Token is the operator's.
func (c *Control) Token() (string, error) {
	return rpc.File(filepath.Join(c.Data, "token"))(context.Background())
}

// Dial connects as the operator. Options that the caller adds come last.
func (c *Control) Dial(more ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts := append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.File(filepath.Join(c.Data, "token")), Plaintext: true}))
	return grpc.NewClient(c.GRPC, append(opts, more...)...)
}

// Executor is a separate executor that can be started again and again.
type Executor struct {
	Name, Control, TokenFile, Root, Data string
	// Args are further flags.
	Args []string
	// Process is the present, or last, incarnation, and Log what it says.
	*Process
	Log *Log

	programs string
}

// NewExecutor makes a token for an executor of c, which serves, and its directories below dir. It is not started yet.
func (c *Control) NewExecutor(ctx context.Context, conn grpc.ClientConnInterface, name, dir string) (*Executor, error) {
	e := &Executor{
		Name: name, Control: c.GRPC, TokenFile: filepath.Join(dir, name+".token"), Root: filepath.Join(dir,
			name+"-root"),
		Data: filepath.Join(dir, name), programs: c.programs,
	}
	made, err := pawlv1.NewTokenServiceClient(conn).CreateToken(ctx, &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{ExecutorId: name}},
	})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(e.Root, 0o700); err != nil {
		return nil, err
	}
	return e, os.WriteFile(e.TokenFile, []byte(made.GetSecret()), 0o600)
}

// Start starts it and returns when it is connected.
func (e *Executor) Start(ctx context.Context) error {
	var err error
	e.Log = &Log{}
	e.Process, err = Start(filepath.Join(e.programs, "executor"), append([]string{
		"--control", e.Control, "--token-file", e.TokenFile, "--name", e.Name, "--root", e.Root, "--data", e.Data,
	}, e.Args...), e.Root, e.Log)
	if err != nil {
		return err
	}
	return e.Log.Await(ctx, e.Process, "connected to control")
}
