package keeper

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkPath compares one command in turns, so that a noisy machine is as noisy to all: bare is fork, exec and wait,
// the floor; keeper is Start to Done; beside is that while another command runs. The times are 5th percentiles, because
// a neighbour's load is in all others; over is what the keeper adds to bare.
func BenchmarkPath(b *testing.B) {
	for _, line := range []string{"true", "echo hello"} {
		b.Run(line, func(b *testing.B) { benchPath(b, line) })
	}
}

func benchPath(b *testing.B, line string) {
	c, busy := ensure(b, b.TempDir(), Options{}), ensure(b, b.TempDir(), Options{})
	other := start(b, busy, "other", "sleep 1000")
	i := 0
	through := func(c *Client) func() {
		return func() { <-start(b, c, fmt.Sprintf("c%d", i), line).Done() }
	}
	ways := []struct {
		name string
		run  func()
	}{
		{"bare", func() { bare(b, line) }}, {"keeper", through(c)}, {"beside", through(busy)},
	}
	times := map[string][]time.Duration{}
	for b.Loop() {
		i++
		for _, w := range ways {
			began := time.Now()
			w.run()
			times[w.name] = append(times[w.name], time.Since(began))
		}
	}
	ms := map[string]float64{}
	for _, w := range ways {
		slices.Sort(times[w.name])
		ms[w.name] = times[w.name][len(times[w.name])/20].Seconds() * 1e3
		b.ReportMetric(ms[w.name], w.name+"-ms")
	}
	b.ReportMetric(ms["keeper"]-ms["bare"], "over-ms")
	b.ReportMetric(0, "ns/op")
	if err := other.Kill(b.Context(), time.Second); err != nil {
		b.Fatal(err)
	}
}

// bare runs the command with the null device for its output: the cheapest that there is.
func bare(b *testing.B, line string) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	pid, err := syscall.ForkExec("/bin/bash", []string{"/bin/bash", "-c", line}, &syscall.ProcAttr{
		Env: testEnv(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		b.Fatal(err)
	}
}
