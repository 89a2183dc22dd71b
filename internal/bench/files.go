package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

const (
	fileSize  = 10_000_000
	fileChunk = 256 << 10
)

// files measures a file of 10 MB that is written to a separate executor and read from it. The floor, in turns with it,
// is the same on this host: written anew and synced, and read.
func files(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	e, err := r.executor(ctx, p)
	if err != nil {
		return err
	}
	local, err := r.localFiles()
	if err != nil {
		return err
	}
	service := pawlv1.NewFileServiceClient(p.conn)
	at := &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: e.Name}}
	for _, way := range []struct {
		name         string
		theirs, ours func(context.Context) error
	}{
		{"write", local.write, func(ctx context.Context) error { return put(ctx, service, at) }},
		{"read", local.read, func(ctx context.Context) error { return get(ctx, service, at) }},
	} {
		theirs, ours, err := turns(ctx, r.some(30, 3), way.theirs, way.ours)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		r.add(ours.row(Row{What: "10 MB file, " + way.name + ", separate executor", Floor: theirs.p50()}))
	}
	return nil
}

func put(ctx context.Context, service pawlv1.FileServiceClient, at *pawlv1.FileTarget) error {
	stream, err := service.WriteFile(ctx)
	if err != nil {
		return err
	}
	send := func(m *pawlv1.WriteFileRequest) bool { return stream.Send(m) == nil } // CloseAndRecv knows why it failed
	ok := send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Start_{Start: &pawlv1.WriteFileRequest_Start{Target: at, Path: "file"}}})
	chunk := make([]byte, fileChunk)
	for left := fileSize; ok && left > 0; left -= fileChunk {
		ok = send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: chunk[:min(left, fileChunk)]}})
	}
	if ok {
		send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_End_{End: &pawlv1.WriteFileRequest_End{}}})
	}
	got, err := stream.CloseAndRecv()
	if n := got.GetWritten().GetSize(); err == nil && n != fileSize {
		err = fmt.Errorf("%d bytes were written", n)
	}
	return err
}

func get(ctx context.Context, service pawlv1.FileServiceClient, at *pawlv1.FileTarget) error {
	stream, err := service.ReadFile(ctx, &pawlv1.ReadFileRequest{Target: at, Path: "file"})
	if err != nil {
		return err
	}
	n := 0
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		n += len(m.GetData())
	}
	if n != fileSize {
		return fmt.Errorf("%d bytes were read", n)
	}
	return nil
}

// localFiles are a file of this host that is copied and read.
type localFiles struct{ from, to string }

func (r *run) localFiles() (localFiles, error) {
	dir, err := r.newDir()
	l := localFiles{from: filepath.Join(dir, "from"), to: filepath.Join(dir, "to")}
	return l, errors.Join(err, os.WriteFile(l.from, make([]byte, fileSize), 0o600))
}

// copy reads a file in pieces. It avoids the system call that copies between files: what comes through a network has to
// be read and written.
func (l localFiles) copy(to io.Writer) error {
	from, err := os.Open(l.from)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, fileChunk))
	return errors.Join(err, from.Close())
}

func (l localFiles) read(context.Context) error { return l.copy(io.Discard) }

func (l localFiles) write(context.Context) error {
	to, err := os.Create(l.to)
	if err != nil {
		return err
	}
	return errors.Join(l.copy(to), to.Sync(), to.Close())
}
