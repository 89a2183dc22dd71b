package platformtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
)

// A tenant has a thousand prompts waiting and two hundred calls. What others ask for begins after a few of these, and
// not behind all; meanwhile no slot stays empty.
func TestTenantsDoNotWaitBehindABusyOne(t *testing.T) {
	const lanes, slots, prompts = 210, 4, 1200
	synctest.Test(t, func(t *testing.T) {
		c := platformtest.New(t, platformtest.Options{Slots: lanes, SharedNone: true})
		a := c.Start("a", nil)
		m := c.SharedMachine(a, "m")
		m.Slots = slots
		m.Start(a)
		submit := func(tenant, instance string) {
			ctx := metadata.AppendToOutgoingContext(context.WithoutCancel(t.Context()), "x-pawl-tenant", tenant)
			_, err := pawlv1.NewSubmissionServiceClient(a.GRPC).Submit(ctx, &pawlv1.SubmitRequest{
				Key:     &pawlv1.SessionKey{Agent: "shell", Instance: instance},
				Message: "add effects " + tenant + ";sleep 1m",
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		others := []string{"b", "c"}
		for _, name := range append(others, "busy") {
			_, err := pawlv1.NewTenantServiceClient(a.GRPC).CreateTenant(t.Context(), &pawlv1.CreateTenantRequest{
				Name: name,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for n := range prompts {
			submit("busy", fmt.Sprint(n))
		}
		synctest.Wait()
		begun := func() []string {
			text, _ := m.Box.Get("effects")
			return strings.Fields(text)
		}
		before := len(begun())
		if before != slots {
			t.Fatalf("%d calls run in %d slots", before, slots)
		}
		for _, tenant := range others {
			submit(tenant, "i")
		}
		for round := 1; !slices.Contains(begun(), "b") || !slices.Contains(begun(), "c"); round++ {
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := len(begun()); got != slots*(round+1) {
				t.Fatalf("%d calls have begun in round %d of %d slots", got, round, slots)
			}
			if round > 4 {
				break
			}
		}
		for _, tenant := range others {
			// A lane of the busy one has to end first, and then a call: as many as have slots end at once.
			if after := slices.Index(begun()[before:], tenant); after < 0 || after >= 3*slots {
				t.Errorf("%d calls of others begin before the one of %s", after, tenant)
			}
		}
	})
}
