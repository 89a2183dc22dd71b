package link

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/link/files"
)

// A panic in what a frame sets off ends the connection that it came over. Whoever waits for a file over it is answered,
// and the executor connects again.
func TestPanicEndsItsConnection(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		waiting := make(chan error, 1)
		go func() {
			_, err := p.Do(context.Background(), &files.Request{
				Executor: "e",
				Verb:     &pawlv1.Execute{Verb: &pawlv1.Execute_Exists{Exists: &pawlv1.Exists{Path: "p"}}},
			})
			waiting <- err
		}()
		if e.execute() == nil {
			t.Fatal("no file was asked for")
		}
		p.owner.panics = true
		e.result("of a run", done())
		if err := e.ended(); status.Code(err) != codes.Internal {
			t.Errorf("the connection: %v", err)
		}
		synctest.Wait()
		select {
		case err := <-waiting:
			if err == nil {
				t.Error("a file verb that nobody answered has a result")
			}
		default:
			t.Error("a file verb waits for a connection that has ended")
		}
		p.owner.panics, p.owner.runs = false, true
		p.executor().result("of a run", done())
		synctest.Wait()
		if len(p.owner.got) != 1 {
			t.Errorf("%d reports over the next connection", len(p.owner.got))
		}
	})
}
