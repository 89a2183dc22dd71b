package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/services/executor/keeper"
)

func TestMain(m *testing.M) {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	os.Exit(m.Run())
}

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
	control := serveControl(b)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{ID: "e", DataDir: b.TempDir(), Targets: []string{"unix:" + control.path}})
	}()
	stream := <-control.streams
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
		{"executor", func() error { i++; return control.execute(stream, fmt.Sprint("c", i), line) }},
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
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

type connect = grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]

// bareControl welcomes executors and hands out their streams.
type bareControl struct {
	pawlv1.UnimplementedExecutorServiceServer
	path    string
	streams chan connect
}

func serveControl(b *testing.B) *bareControl {
	c := &bareControl{path: filepath.Join(b.TempDir(), "control.sock"), streams: make(chan connect, 1)}
	l, err := net.Listen("unix", c.path)
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer()
	pawlv1.RegisterExecutorServiceServer(s, c)
	go s.Serve(l)
	b.Cleanup(s.Stop)
	return c
}

func (c *bareControl) Connect(s connect) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	welcome := &pawlv1.ConnectResponse_Welcome{Welcome: &pawlv1.Welcome{ConnectionEpoch: 1}}
	if err := s.Send(&pawlv1.ConnectResponse{Frame: welcome}); err != nil {
		return err
	}
	c.streams <- s
	<-s.Context().Done()
	return nil
}

// execute runs a command to its result and acknowledges that.
func (c *bareControl) execute(s connect, id, line string) error {
	err := s.Send(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: &pawlv1.Execute{
		CallId: id, LaneId: "lane", Epoch: 1, Dispatch: 1, Safety: pawlv1.Safety_SAFETY_AT_MOST_ONCE,
		ArgsSha256: []byte("h"), Verb: &pawlv1.Execute_Exec{Exec: &pawlv1.Exec{Command: line}},
	}}})
	for err == nil {
		var m *pawlv1.ConnectRequest
		if m, err = s.Recv(); err != nil {
			break
		}
		switch f := m.GetFrame().(type) {
		case *pawlv1.ConnectRequest_Rejected:
			return errors.New(f.Rejected.GetMessage())
		case *pawlv1.ConnectRequest_Result:
			ack := &pawlv1.ConnectResponse_ResultAck{ResultAck: &pawlv1.ResultAck{CallId: id}}
			return s.Send(&pawlv1.ConnectResponse{Frame: ack})
		}
	}
	return err
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
