package main

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
	"github.com/pawl-dev/pawl/internal/rpc"
)

// fileChunk is how much of a file is sent at once.
const fileChunk = 256 << 10

func filesCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use: "files", Short: "Read and write files of a session or an executor",
		Long: "Read and write files of a session's workspace, named AGENT/INSTANCE or AGENT/INSTANCE/SESSION, or of an executor, named by its id.\n" +
			"A relative path is below the executor's root, and below the agent's cwd for a session.",
		Example: "control files get gpu1 results.tar > results.tar\ncontrol files put reviewer/42 notes.md < notes.md",
		Args:    cli.Args(0), RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use: "get TARGET PATH", Short: "Write a file to standard output", Args: cli.Args(2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withFiles(c, func(files pawlv1.FileServiceClient) error {
				return get(c, files, &pawlv1.ReadFileRequest{Target: fileTarget(args[0]), Path: args[1]})
			})
		},
	}, &cobra.Command{
		Use: "put TARGET PATH", Short: "Replace a file by standard input, atomically", Args: cli.Args(2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withFiles(c, func(files pawlv1.FileServiceClient) error {
				return put(c, files, &pawlv1.WriteFileRequest_Start{Target: fileTarget(args[0]), Path: args[1]})
			})
		},
	})
	return c
}

func fileTarget(name string) *pawlv1.FileTarget {
	agent, rest, ok := strings.Cut(name, "/")
	if !ok {
		return &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: name}}
	}
	instance, session, _ := strings.Cut(rest, "/")
	return &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: &pawlv1.SessionKey{Agent: agent, Instance: instance, Session: session}}}
}

func (o *options) withFiles(c *cobra.Command, f func(pawlv1.FileServiceClient) error) error {
	conn, err := o.dial(c.Context())
	if err != nil {
		return err
	}
	if conn == nil {
		return errors.New("no control plane runs on " + o.data + ": start one with `control`, or name another with --data")
	}
	return errors.Join(rpc.FromStatus(f(pawlv1.NewFileServiceClient(conn))), conn.Close())
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
		send(&pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_End_{End: &pawlv1.WriteFileRequest_End{Sha256: hash.Sum(nil)}}})
	}
	got, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "%d bytes, sha256 %x, on %s\n", got.GetWritten().GetSize(), got.GetWritten().GetSha256(), got.GetExecutorId())
	return nil
}
