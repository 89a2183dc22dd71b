package files

import (
	"runtime"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// A transfer is over for the connection before its client hears of the end. Else the client, who is fast, cancels a
// call that has ended.
func TestTransferIsOverBeforeItsClientHears(t *testing.T) {
	for name, last := range map[string]*pawlv1.ConnectRequest{
		"result":   {Frame: &pawlv1.ConnectRequest_Result{Result: &pawlv1.Result{CallId: "c"}}},
		"rejected": {Frame: &pawlv1.ConnectRequest_Rejected{Rejected: &pawlv1.Rejected{CallId: "c"}}},
	} {
		t.Run(name, func(t *testing.T) {
			all := New(func(*pawlv1.ConnectResponse) bool { return true }, func() {})
			transfer := newTransfer(&pawlv1.Execute{CallId: "c"})
			all.running["c"] = transfer
			transfer.mu.Lock() // the client hears nothing
			taken := make(chan struct{})
			go func() {
				defer close(taken)
				all.Hear(last)
			}()
			for began := time.Now(); ; runtime.Gosched() {
				all.mu.Lock()
				_, open := all.running["c"]
				all.mu.Unlock()
				if !open {
					break
				}
				if time.Since(began) > 10*time.Second {
					t.Error("it is known still")
					break
				}
			}
			transfer.mu.Unlock()
			<-taken
		})
	}
}
