package control_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
)

// startReplica runs a control plane on a database and returns a connection to it.
func startReplica(t *testing.T, database control.Database) *grpc.ClientConn {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := control.OpenStore(t.Context(), database, log)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := agent.Load("", os.LookupEnv, nil, agent.Shell())
	if err != nil {
		t.Fatal(err)
	}
	models, err := control.NewModels("", os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	token, ready, done := filepath.Join(t.TempDir(), "token"), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- control.Run(ctx, control.Config{
			Store: db, GRPC: l, Agents: catalogue, Models: models, Lookup: os.LookupEnv, TokenFile: token,
			Advertise: l.Addr().String(), Ready: func() { close(ready) }, Log: log,
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("control did not start: %v", err)
	}
	conn, err := grpc.NewClient(l.Addr().String(), append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.File(token), Plaintext: true}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("control ended with: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// Two replicas on one Postgres are one control plane: what one admits the other sees, in full and in order.
func TestTwoReplicasAreOneControlPlane(t *testing.T) {
	oneControlPlane(t, control.Database{Name: pgtest.URL(t)})
}

func TestTwoReplicasBehindAPoolerAreOneControlPlane(t *testing.T) {
	for name, direct := range map[string]bool{"with a direct address": true, "without one": false} {
		t.Run(name, func(t *testing.T) {
			url := pgtest.URL(t)
			database := control.Database{Name: pgtest.Pooled(t, url)}
			if direct {
				database.Direct = url
			}
			oneControlPlane(t, database)
		})
	}
}

func oneControlPlane(t *testing.T, database control.Database) {
	one, two := startReplica(t, database), startReplica(t, database)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	key := &pawlv1.SessionKey{Agent: "shell", Instance: "i"}
	var id string
	for i, conn := range []*grpc.ClientConn{one, two, one, two} {
		got, err := pawlv1.NewSubmissionServiceClient(conn).Submit(ctx,
			&pawlv1.SubmitRequest{Key: key, Message: "say: " + strings.Repeat("x", i+1)})
		if err != nil {
			t.Fatal(err)
		}
		id = got.GetSubmission().GetSubmissionId()
	}
	done, err := pawlv1.NewSubmissionServiceClient(one).WaitSubmission(ctx,
		&pawlv1.WaitSubmissionRequest{SubmissionId: id})
	if err != nil || done.GetSubmission().GetResult().GetText() != "xxxx" {
		t.Fatalf("the last prompt: %v, %v", done, err)
	}
	for _, conn := range []*grpc.ClientConn{one, two} {
		watching, stop := context.WithCancel(ctx)
		watch, err := pawlv1.NewSessionServiceClient(conn).WatchSession(watching,
			&pawlv1.WatchSessionRequest{SessionId: done.GetSubmission().GetSessionId()})
		if err != nil {
			t.Fatal(err)
		}
		var answers []string
		for last := int64(0); len(answers) < 4; {
			m, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.GetEvents() {
				if last++; e.GetSeq() != last {
					t.Errorf("event %d came after %d", e.GetSeq(), last-1)
				}
				if s := e.GetSettled(); s != nil {
					answers = append(answers, s.GetSubmission().GetResult().GetText())
				}
			}
		}
		stop()
		if got := strings.Join(answers, " "); got != "x xx xxx xxxx" {
			t.Errorf("answers in the order %s", got)
		}
	}
}

// A stop that comes before everything serves is no failure.
func TestStopAtOnce(t *testing.T) {
	catalogue, err := agent.Load("", os.LookupEnv, nil, agent.Shell())
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	for range 50 {
		log := slog.New(slog.DiscardHandler)
		db, err := control.OpenStore(t.Context(), control.Database{Name: "memory"}, log)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		err = control.Run(stopped, control.Config{
			Store: db, GRPC: l, Agents: catalogue, Lookup: os.LookupEnv,
			Log: log,
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
