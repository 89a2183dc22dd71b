package keeper

import (
	"context"
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if Invoked() {
		os.Exit(Main())
	}
	if dir := os.Getenv("PAWL_TEST_DAEMON"); dir != "" {
		daemon(dir)
	}
	os.Exit(m.Run())
}

// daemon is a process for the tests to kill: it starts a command, says so, and waits.
func daemon(dir string) {
	c, err := serving(context.Background(), dir, Options{Idle: fastIdle, OrphanGrace: slowGrace})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s := shell(os.Getenv("PAWL_TEST_LINE"))
	if _, err := c.Start(context.Background(), "call", s); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("started")
	select {}
}
