package crashtest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// desk is a client of the files of one target.
type desk struct {
	t      *testing.T
	ctx    context.Context
	files  pawlv1.FileServiceClient
	target *pawlv1.FileTarget
}

func newDesk(t *testing.T, conn grpc.ClientConnInterface, target *pawlv1.FileTarget) *desk {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &desk{t: t, ctx: ctx, files: pawlv1.NewFileServiceClient(conn), target: target}
}

var (
	byExecutor = &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: "m1"}}
	bySession  = &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: &pawlv1.SessionKey{
		Agent:    "shell",
		Instance: "i",
	}}}
)

// open begins to write.
func (d *desk) open(
	ctx context.Context, path string,
) grpc.ClientStreamingClient[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse] {
	d.t.Helper()
	stream, err := d.files.WriteFile(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	d.send(stream, &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Start_{Start: &pawlv1.WriteFileRequest_Start{Target: d.target, Path: path}}})
	return stream
}

func (d *desk) send(
	stream grpc.ClientStreamingClient[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse], m *pawlv1.WriteFileRequest,
) {
	d.t.Helper()
	if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		d.t.Fatal(err)
	}
}

func (d *desk) write(path string, content, sum []byte) (*pawlv1.WriteFileResponse, error) {
	d.t.Helper()
	stream := d.open(d.ctx, path)
	for piece := range slices.Chunk(content, 200_000) {
		d.send(stream, &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: piece}})
	}
	d.send(stream, &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_End_{End: &pawlv1.WriteFileRequest_End{Sha256: sum}}})
	return stream.CloseAndRecv()
}

// read reads a file and checks the size and the hash that come with it.
func (d *desk) read(path string) ([]byte, error) {
	d.t.Helper()
	stream, err := d.files.ReadFile(d.ctx, &pawlv1.ReadFileRequest{Target: d.target, Path: path})
	if err != nil {
		return nil, err
	}
	content, opened := []byte{}, false
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		switch part := m.GetPart().(type) {
		case *pawlv1.ReadFileResponse_Opened_:
			opened = part.Opened.GetExecutorId() == "m1" && part.Opened.Size != nil
		case *pawlv1.ReadFileResponse_Data:
			content = append(content, part.Data...)
		case *pawlv1.ReadFileResponse_Done:
			sum := sha256.Sum256(content)
			if !opened || part.Done.GetSize() != int64(len(content)) || !bytes.Equal(part.Done.GetSha256(), sum[:]) {
				d.t.Errorf("%s: opened %v, done with %v after %d bytes", path, opened, part.Done, len(content))
			}
			if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				d.t.Errorf("%s: after done came %v", path, err)
			}
			return content, nil
		}
	}
}

// roundTrip writes and reads back.
func (d *desk) roundTrip(path string, content []byte) {
	d.t.Helper()
	sum := sha256.Sum256(content)
	wrote, err := d.write(path, content, sum[:])
	if err != nil {
		d.t.Errorf("writing %s: %v", path, err)
		return
	}
	if w := wrote.GetWritten(); w.GetSize() != int64(len(content)) || !bytes.Equal(w.GetSha256(), sum[:]) ||
		wrote.GetExecutorId() != "m1" {
		d.t.Errorf("%s: %v", path, wrote)
	}
	got, err := d.read(path)
	if err != nil || !bytes.Equal(got, content) {
		d.t.Errorf("%s: %d bytes of %d came back, %v", path, len(got), len(content), err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// temporaries are what writes have left behind.
func temporaries(t *testing.T, root string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(root, ".pawl-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestFiles(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	conn := p.dial()
	for _, target := range []*pawlv1.FileTarget{byExecutor, bySession} {
		d := newDesk(t, conn, target)
		d.roundTrip("large", random(10<<20+17))
		d.roundTrip("window", random(1<<20))
		d.roundTrip("dir/ü\nname", []byte("a\x00b\xffc"))
		d.roundTrip("empty", nil)
		d.roundTrip("large", []byte("shorter"))
		d.roundTrip(filepath.Join(m.Root, "absolute"), random(300_000))
	}
	d := newDesk(t, conn, byExecutor)
	reason := func(err error, code codes.Code, want string) {
		t.Helper()
		if status.Code(err) != code || rpc.Reason(err) != want {
			t.Errorf("%v, want %v %s", err, code, want)
		}
	}
	_, err := d.read("missing")
	reason(err, codes.NotFound, "NOT_FOUND")
	_, err = d.read("dir")
	reason(err, codes.FailedPrecondition, "IS_DIR")
	_, err = d.write("dir", random(3<<20), nil)
	reason(err, codes.FailedPrecondition, "IS_DIR")
	_, err = d.write("large", []byte("other"), make([]byte, 32))
	reason(err, codes.InvalidArgument, "HASH_MISMATCH")
	_, err = d.write("empty/below", nil, nil)
	reason(err, codes.FailedPrecondition, "NOT_DIR")
	_, err = d.write(strings.Repeat("x", 300), nil, nil)
	reason(err, codes.InvalidArgument, "INVALID_ARG")
	if got := m.read("large"); got != "shorter" {
		t.Errorf("a write that failed left %q", got)
	}

	st, err := d.files.Stat(d.ctx, &pawlv1.StatRequest{Target: d.target, Path: "large"})
	if err != nil || !st.GetIsFile() || st.GetSize() != 7 || st.GetMtime() == nil {
		t.Errorf("%v, %v", st, err)
	}
	for path, want := range map[string]bool{"large": true, "missing": false, "large/below": false} {
		if got, err := d.files.Exists(d.ctx, &pawlv1.ExistsRequest{Target: d.target, Path: path}); err != nil ||
			got.GetExists() != want {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	_, err = d.files.MakeDir(d.ctx, &pawlv1.MakeDirRequest{Target: d.target, Path: "a/b"})
	reason(err, codes.NotFound, "NOT_FOUND")
	if _, err = d.files.MakeDir(d.ctx, &pawlv1.MakeDirRequest{
		Target: d.target, Path: "a/b",
		Recursive: true,
	}); err != nil {
		t.Error(err)
	}
	_, err = d.files.Remove(d.ctx, &pawlv1.RemoveRequest{Target: d.target, Path: "a"})
	reason(err, codes.FailedPrecondition, "NOT_EMPTY")
	if _, err = d.files.Remove(d.ctx, &pawlv1.RemoveRequest{Target: d.target, Path: "a", Recursive: true}); err != nil {
		t.Error(err)
	}
	_, err = d.files.Remove(d.ctx, &pawlv1.RemoveRequest{Target: d.target, Path: "."})
	reason(err, codes.InvalidArgument, "INVALID_ARG")
	dir, err := d.files.ReadDir(d.ctx, &pawlv1.ReadDirRequest{Target: d.target, Path: "."})
	if err != nil {
		t.Fatal(err)
	}
	names, err := dir.Recv()
	if got := string(bytes.Join(names.GetNames(), []byte(" "))); err != nil ||
		got != "absolute dir empty large window" {
		t.Errorf("%q, %v", got, err)
	}
}

// A client that leaves in the middle of a write changes nothing and leaves nothing behind, nor does an executor that is
// killed there make anybody believe that it wrote.
func TestFilesLeftInTheMiddle(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	d := newDesk(t, p.dial(), byExecutor)
	d.roundTrip("f", []byte("old"))
	begin := func(ctx context.Context) grpc.ClientStreamingClient[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse] {
		stream := d.open(ctx, "f")
		d.send(stream, &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: random(500_000)}})
		eventually(t, "the content to arrive", func() bool { return len(temporaries(t, m.Root)) == 1 })
		return stream
	}
	ctx, cancel := context.WithCancel(d.ctx)
	begin(ctx)
	cancel()
	eventually(t, "the temporary file to go", func() bool { return len(temporaries(t, m.Root)) == 0 })

	stream := begin(d.ctx)
	m.kill()
	if err := stream.RecvMsg(&pawlv1.WriteFileResponse{}); status.Code(err) != codes.Unavailable ||
		rpc.Reason(err) != "EXECUTOR_AWAY" {
		t.Error(err)
	}
	if _, err := d.read("f"); status.Code(err) != codes.Unavailable || rpc.Reason(err) != "EXECUTOR_AWAY" {
		t.Error(err)
	}
	m.start()
	if got, err := d.read("f"); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
}

// Files of an executor that is connected to the other replica.
func TestFilesAtTheOtherReplica(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	one, two := newPlane(t, url), newPlane(t, url)
	m := newMachine(t, two)
	for _, target := range []*pawlv1.FileTarget{byExecutor, bySession} {
		d := newDesk(t, one.dial(), target)
		d.roundTrip("large", random(10<<20))
		d.roundTrip("empty", nil)
		if _, err := d.read("missing"); status.Code(err) != codes.NotFound || rpc.Reason(err) != "NOT_FOUND" {
			t.Error(err)
		}
		if _, err := d.write("large", []byte("x"), make([]byte, 32)); status.Code(err) != codes.InvalidArgument ||
			rpc.Reason(err) != "HASH_MISMATCH" {
			t.Error(err)
		}
		if got, err := d.files.Exists(d.ctx, &pawlv1.ExistsRequest{Target: target, Path: "large"}); err != nil ||
			!got.GetExists() {
			t.Errorf("%v, %v", got, err)
		}
	}
	d := newDesk(t, one.dial(), byExecutor)
	ctx, cancel := context.WithCancel(d.ctx)
	stream := d.open(ctx, "large")
	d.send(stream, &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: random(500_000)}})
	eventually(t, "the content to arrive", func() bool { return len(temporaries(t, m.Root)) == 1 })
	cancel()
	eventually(t, "the temporary file to go", func() bool { return len(temporaries(t, m.Root)) == 0 })
	stream = d.open(d.ctx, "large")
	d.send(stream, &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: random(500_000)}})
	eventually(t, "the content to arrive", func() bool { return len(temporaries(t, m.Root)) == 1 })
	two.kill()
	if err := stream.RecvMsg(&pawlv1.WriteFileResponse{}); status.Code(err) != codes.Unavailable ||
		rpc.Reason(err) != "EXECUTOR_AWAY" {
		t.Error(err)
	}
	eventually(t, "the temporary file to go", func() bool { return len(temporaries(t, m.Root)) == 0 })
	if fi, err := os.Stat(filepath.Join(m.Root, "large")); err != nil || fi.Size() != 10<<20 {
		t.Errorf("%v, %v", fi, err)
	}
}
