package client

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// fileChunk is how much of a file is sent at once.
const fileChunk = 256 << 10

func filesCommand(o *connection) *cobra.Command {
	commands := append(folderCommands(o), &cobra.Command{
		Use: "get TARGET PATH", Short: "Write a file to standard output", Args: cli.Args(2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withFiles(c, args[0], func(files pawlv1.FileServiceClient, target *pawlv1.FileTarget) error {
				err := get(c, files, &pawlv1.ReadFileRequest{Target: target, Path: args[1]})
				if rpc.Reason(err) == "IS_DIR" {
					return fmt.Errorf("%w: `control files pull TARGET PATH DIR` copies one", rpc.FromStatus(err))
				}
				return err
			})
		},
	}, &cobra.Command{
		Use: "put TARGET PATH", Short: "Replace a file by standard input, atomically", Args: cli.Args(2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withFiles(c, args[0], func(files pawlv1.FileServiceClient, target *pawlv1.FileTarget) error {
				return put(c, files, &pawlv1.WriteFileRequest_Start{Target: target, Path: args[1]})
			})
		},
	})
	return o.group(&cobra.Command{
		Use:   "files",
		Short: "Read and write files of a session or an executor",
		Long: "Read and write files of a session's workspace, named AGENT/INSTANCE or AGENT/INSTANCE/SESSION, or " +
			"of an executor, named by its id. A relative path is below the executor's root, and below the agent's " +
			"cwd for a session. " + slashForm,
		Example: "control files get gpu1 results.tar > results.tar\n" +
			"control files put reviewer/42 notes.md < notes.md\n" +
			"control files pull reviewer/42 out ./out",
	}, commands...)
}

func fileTarget(name string) (*pawlv1.FileTarget, error) {
	key := sessionKey(name)
	switch {
	case key != nil:
		return &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: key}}, nil
	case name == "" || strings.Contains(name, "/"):
		return nil, cli.WithCode(fmt.Errorf("%q names nothing: use AGENT/INSTANCE, AGENT/INSTANCE/SESSION or the id "+
			"of an executor", name), cli.Usage)
	}
	return &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: name}}, nil
}

func (o *connection) withFiles(
	c *cobra.Command, name string, f func(pawlv1.FileServiceClient, *pawlv1.FileTarget) error,
) error {
	target, err := fileTarget(name)
	if err != nil {
		return err
	}
	conn, err := o.connect(c.Context())
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- f(pawlv1.NewFileServiceClient(conn), target) }()
	select {
	case err = <-done:
	case <-c.Context().Done(): // reading standard input may go on for ever
		err = c.Context().Err()
	}
	return errors.Join(inWords(c.Context(), err), conn.Close())
}

func get(c *cobra.Command, files pawlv1.FileServiceClient, req *pawlv1.ReadFileRequest) error {
	stream, err := files.ReadFile(c.Context(), req)
	if err != nil {
		return err
	}
	hash := sha256.New()
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the file ended without its hash")
		case err != nil:
			return err
		case m.GetDone() != nil:
			if !bytes.Equal(hash.Sum(nil), m.GetDone().GetSha256()) {
				return errors.New("what arrived is not what was read: its hash differs")
			}
			return nil
		}
		hash.Write(m.GetData())
		if _, err := c.OutOrStdout().Write(m.GetData()); err != nil {
			return fmt.Errorf("writing the file: %w", err)
		}
	}
}

func put(c *cobra.Command, files pawlv1.FileServiceClient, start *pawlv1.WriteFileRequest_Start) error {
	stream, err := files.WriteFile(c.Context())
	if err != nil {
		return err
	}
	send := func(m *pawlv1.WriteFileRequest) bool { return stream.Send(m) == nil } // CloseAndRecv knows why it failed
	ok := send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Start_{Start: start}})
	hash, buf := sha256.New(), make([]byte, fileChunk)
	for ok {
		n, err := io.ReadFull(c.InOrStdin(), buf)
		hash.Write(buf[:n])
		ok = n == 0 || send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: buf[:n]}})
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the content: %w", err) // without its end nothing is replaced
		}
	}
	if ok {
		end := &pawlv1.WriteFileRequest_End{Sha256: hash.Sum(nil)}
		send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_End_{End: end}})
	}
	got, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s, sha256 %x, on %s\n",
		plural.Of(got.GetWritten().GetSize(), "byte"), got.GetWritten().GetSha256(), got.GetExecutorId())
	return nil
}
