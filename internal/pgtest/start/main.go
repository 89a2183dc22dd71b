// Command start runs a command with PAWL_TEST_POSTGRES naming a temporary Postgres cluster, which ends with it:
//
//	go run ./internal/pgtest/start [-fsync=false] go test ./...
//
// If the variable is set already, the command simply runs. The exit code is the command's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/pawl-dev/pawl/internal/pgtest"
)

func main() {
	fsync := flag.Bool("fsync", true, "keep commits through a power cut; tests need not")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: start [-fsync=false] COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	ctx, stop := signalContext(context.Background())
	err := run(ctx, pgtest.Options{NoFsync: !*fsync}, flag.Args())
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1)) // -1, killed by a signal, is a failure like any other
	default:
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		os.Exit(1)
	}
}

func signalContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

// run lets the command end by itself before its server goes, also after a signal.
func run(ctx context.Context, opts pgtest.Options, args []string) (err error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if os.Getenv(pgtest.Env) == "" {
		cluster, err := pgtest.Start(ctx, opts)
		if err != nil {
			return err
		}
		defer func() {
			if err := cluster.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, "pgtest: stop the cluster:", err)
			}
		}()
		cmd.Env = append(os.Environ(), pgtest.Env+"="+cluster.URL)
	}
	return cmd.Run()
}
