package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// sizes measures the programs as they are released: without symbols and debugging information, and static.
func sizes(ctx context.Context, r *run) error {
	for _, program := range []struct {
		name string
		goal Goal
	}{{"control", most(P50, 60e6)}, {"executor", most(P50, 30e6)}} {
		name, goal := program.name, program.goal
		to := filepath.Join(r.dir, name+"-stripped")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, "./cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
		info, err := os.Stat(to)
		if err != nil {
			return err
		}
		r.add(Row{What: name + ", stripped", P50: bytes(info.Size()), Goal: goal})
	}
	return nil
}
