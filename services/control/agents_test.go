package control

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
)

// definitions counts what is stored.
type definitions struct{ stored int }

func (d *definitions) PutDefinition(context.Context, string, string, []byte) error {
	d.stored++
	return nil
}

func (*definitions) GetDefinition(context.Context, string) ([]byte, error) { return nil, nil }

// A definition that is in use is stored again from time to time: a stored one that nothing was pinned to for long is
// deleted.
func TestDefinitionsInUseAreStoredAgain(t *testing.T) {
	catalogue, err := agent.Load("", func(string) (string, bool) { return "", false }, nil, agent.Shell())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := &definitions{}
		p := newPins(catalogue, d)
		for range 10 * 60 { // minutes
			if _, err := p.PinAgent(t.Context(), "shell"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if d.stored != 10 {
			t.Errorf("stored %d times in 10 hours, want 10", d.stored)
		}
	})
}
