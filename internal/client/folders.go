package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/internal/tarball"
)

func folderCommands(o *connection) []*cobra.Command {
	return []*cobra.Command{{
		Use: "pull TARGET PATH DIR", Short: "Copy what is in a directory to a directory here", Args: cli.Args(3),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withFiles(c, args[0], func(files pawlv1.FileServiceClient, target *pawlv1.FileTarget) error {
				return pull(c.Context(), files, &pawlv1.ReadFileRequest{Target: target, Path: args[1]}, args[2])
			})
		},
	}, {
		Use: "push TARGET DIR PATH", Short: "Copy what is in a directory here to a directory", Args: cli.Args(3),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withFiles(c, args[0], func(files pawlv1.FileServiceClient, target *pawlv1.FileTarget) error {
				return push(c, files, &pawlv1.WriteFileRequest_Start{Target: target, Path: args[2]}, args[1])
			})
		},
	}}
}

// pull unpacks a directory's archive as it comes. The directory here is made when some of it has come. What came before
// a failure stays.
func pull(ctx context.Context, files pawlv1.FileServiceClient, req *pawlv1.ReadFileRequest, to string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req.Archive = pawlv1.Archive_ARCHIVE_TAR
	stream, err := files.ReadFile(ctx, req)
	if err != nil {
		return err
	}
	in := &incoming{next: stream.Recv}
	for len(in.left) == 0 {
		if err := in.more(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it was read only
	if err := tarball.Unpack(ctx, dir, in); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // what is behind the archive, and whether it is whole
	return err
}

// incoming is the bytes of a file that comes.
type incoming struct {
	next func() (*pawlv1.ReadFileResponse, error)
	left []byte
	done bool
}

// more takes the next message. io.EOF is behind the last one.
func (i *incoming) more() error {
	if i.done {
		return io.EOF
	}
	m, err := i.next()
	if errors.Is(err, io.EOF) {
		return errors.New("the archive ended before it was whole")
	}
	if err != nil {
		return err
	}
	i.left, i.done = m.GetData(), m.GetDone() != nil
	return nil
}

// Read implements io.Reader.
func (i *incoming) Read(p []byte) (int, error) {
	for len(i.left) == 0 {
		if err := i.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, i.left)
	i.left = i.left[n:]
	return n, nil
}

// push packs a directory while it is sent.
func push(c *cobra.Command, files pawlv1.FileServiceClient, start *pawlv1.WriteFileRequest_Start, from string) error {
	dir, err := os.Open(from)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it was read only
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel() // what is not whole is no archive
	stream, err := files.WriteFile(ctx)
	if err != nil {
		return err
	}
	start.Archive = pawlv1.Archive_ARCHIVE_TAR
	if err := stream.Send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Start_{Start: start}}); err == nil {
		err = tarball.Pack(ctx, dir, outgoing{stream}, nil)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err == nil {
			end := &pawlv1.WriteFileRequest_End{}
			_ = stream.Send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_End_{End: end}})
		}
	}
	got, err := stream.CloseAndRecv() // which knows why sending failed
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "an archive of %s, unpacked on %s\n", plural.Of(got.GetWritten().GetSize(), "byte"),
		got.GetExecutorId())
	return nil
}

// outgoing sends what is written as content. io.EOF says that the other side takes no more.
type outgoing struct {
	stream pawlv1.FileService_WriteFileClient
}

// Write implements io.Writer.
func (o outgoing) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		part := p[:min(len(p), fileChunk)]
		if err = o.stream.Send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: part}}); err == nil {
			n += len(part)
			p = p[len(part):]
		}
	}
	return n, err
}
