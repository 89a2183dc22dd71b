package keeper

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkBare is the floor: the fork and exec that any way of running a command has to pay.
func BenchmarkBare(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for b.Loop() {
		pid, err := syscall.ForkExec("/bin/bash", []string{"/bin/bash", "-c", "true"}, &syscall.ProcAttr{
			Env: testEnv(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSync is one fdatasync of a growing log: the other part of the floor.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/log")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	line := make([]byte, 200)
	for b.Loop() {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
		if err := fdatasync(f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKeeper is Start to Done of the same command, its END on disk.
func BenchmarkKeeper(b *testing.B) {
	for _, line := range []string{"true", "echo hello"} {
		b.Run(line, func(b *testing.B) {
			c := ensure(b, b.TempDir(), Options{})
			i := 0
			for b.Loop() {
				i++
				cmd := start(b, c, fmt.Sprintf("c%d", i), line)
				<-cmd.Done()
			}
		})
	}
}

// BenchmarkKeeperBeside is the same while another command runs: then looking for what is left costs more.
func BenchmarkKeeperBeside(b *testing.B) {
	c := ensure(b, b.TempDir(), Options{})
	other := start(b, c, "other", "sleep 1000")
	i := 0
	for b.Loop() {
		i++
		cmd := start(b, c, fmt.Sprintf("c%d", i), "true")
		<-cmd.Done()
	}
	if err := other.Kill(b.Context(), time.Second); err != nil {
		b.Fatal(err)
	}
}
