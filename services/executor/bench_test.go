package executor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/disk"
)

// BenchmarkCommand compares one command in turns, so that a noisy machine is as noisy to all: bare is fork, exec and
// wait; sync is an fdatasync of a growing log; executor is Execute to Result over gRPC, as control sees it. The times
// are 5th percentiles, because a neighbour's load is in all others; over is what the executor adds to bare and one
// sync.
func BenchmarkCommand(b *testing.B) {
	for _, line := range []string{"true", "echo hello"} {
		b.Run(line, func(b *testing.B) { benchCommand(b, line) })
	}
}

func benchCommand(b *testing.B, line string) {
	e := execute(b, b.TempDir())
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	i := 0
	ways := []struct {
		name string
		run  func() error
	}{
		{"bare", func() error { return bare(line) }},
		{"sync", func() error { return syncLine(log) }},
		{"executor", func() error { i++; return e.command(fmt.Sprint("c", i), line) }},
	}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for _, w := range ways {
			began := time.Now()
			if err := w.run(); err != nil {
				b.Fatal(err)
			}
			times[w.name] = append(times[w.name], time.Since(began))
		}
	}
	ms := map[string]float64{}
	for _, w := range ways {
		slices.Sort(times[w.name])
		ms[w.name] = times[w.name][len(times[w.name])/20].Seconds() * 1e3
		b.ReportMetric(ms[w.name], w.name+"-ms")
	}
	b.ReportMetric(ms["executor"]-ms["bare"]-ms["sync"], "over-ms")
	b.ReportMetric(0, "ns/op")
}

// bare runs the command with the null device for its output: the cheapest that there is.
func bare(line string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := syscall.ForkExec("/bin/bash", []string{"/bin/bash", "-c", line}, &syscall.ProcAttr{
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Files: []uintptr{null.Fd(), null.Fd(), null.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	_, err = unix.Wait4(pid, nil, 0, nil)
	return err
}

func syncLine(f *os.File) error {
	if _, err := f.Write(make([]byte, 200)); err != nil {
		return err
	}
	return disk.Datasync(f)
}
