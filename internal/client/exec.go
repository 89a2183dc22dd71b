package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/plural"
)

// stdinChunk is how much of a command's input is sent at once.
const stdinChunk = 64 << 10

func execCommand(o *connection) *cobra.Command {
	req, stdin, timeout, env := &pawlv1.ExecRequest{}, false, time.Duration(0), []string(nil)
	c := &cobra.Command{
		Use:   "exec [flags] TARGET -- COMMAND [ARG…]",
		Short: "Run a command in the workspace of a session, outside of the conversation",
		Long: "Run a command in the workspace of a session that exists, named AGENT/INSTANCE or " +
			"AGENT/INSTANCE/SESSION, or at an executor, named by its id. One argument is a line for the shell; " +
			"several are a command and its arguments. The command ends with this one, and this one ends with the " +
			"command's code. " + slashForm,
		Example: "control exec reviewer/42 -- make test\ncontrol exec reviewer/42 -- 'grep -r TODO . | wc -l'",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return cli.Misused(c, fmt.Errorf("%s takes TARGET -- COMMAND", c.CommandPath()))
			}
			return cli.Args(len(args))(c, args)
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			if req.Target, err = fileTarget(args[0]); err != nil {
				return err
			}
			if req.Command = args[1]; len(args) > 2 {
				req.Command = quoted(args[1:])
			}
			if timeout > 0 {
				req.Timeout = durationpb.New(timeout)
			}
			req.Env = map[string]string{}
			for _, one := range env {
				name, value, ok := strings.Cut(one, "=")
				if !ok || name == "" {
					return cli.Misused(c, fmt.Errorf("%q is no variable: use NAME=VALUE", one))
				}
				req.Env[name] = value
			}
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				return run(ctx, c, pawlv1.NewFileServiceClient(conn), req, stdin)
			})
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&req.Cwd, "cwd", "", "`DIR`: working directory, below that of the agent")
	f.StringArrayVar(&env, "env", nil, "`NAME=VALUE`: a variable for the command; may be repeated")
	f.DurationVar(&timeout, "timeout", 0, "how long the command may take; 0 is unlimited")
	f.BoolVarP(&stdin, "stdin", "i", false, "give the command the standard input")
	return c
}

// quoted is a command and its arguments as a line for the shell.
func quoted(args []string) string {
	all := make([]string, len(args))
	for i, arg := range args {
		all[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return strings.Join(all, " ")
}

// run runs a command to its end. An error with the command's code says that it failed.
func run(
	ctx context.Context, c *cobra.Command, files pawlv1.FileServiceClient, req *pawlv1.ExecRequest, stdin bool,
) error {
	stream, err := files.Exec(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) { // what is received tells why
		return err
	}
	unread := make(chan error, 1)
	if stdin {
		go func() { unread <- feed(c.InOrStdin(), stream) }() // reading may go on for ever
	} else if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the stream ended without the command's end, whose outcome is unknown")
		case err != nil:
			return err
		case m.GetExited() != nil:
			select {
			case err := <-unread:
				return errors.Join(exited(c, m.GetExited()), err)
			default:
				return exited(c, m.GetExited())
			}
		}
		if err := say(c, m); err != nil {
			return fmt.Errorf("writing the output: %w", err)
		}
	}
}

// feed sends the standard input.
func feed(from io.Reader, stream pawlv1.FileService_ExecClient) error {
	buf := make([]byte, stdinChunk)
	for {
		n, err := from.Read(buf)
		if n > 0 && stream.Send(&pawlv1.ExecRequest{Stdin: buf[:n]}) != nil {
			return nil // the command has ended
		}
		if errors.Is(err, io.EOF) {
			return stream.CloseSend()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("reading the input: %w", err), stream.CloseSend())
		}
	}
}

func say(c *cobra.Command, m *pawlv1.ExecResponse) error {
	to, piece := c.OutOrStdout(), m.GetStdout()
	if m.GetStderr() != nil {
		to, piece = c.ErrOrStderr(), m.GetStderr()
	}
	_, err := to.Write(append([]byte(piece.GetText()), piece.GetData()...))
	return err
}

func exited(c *cobra.Command, x *pawlv1.ExecResponse_Exited) error {
	if n := x.GetStdoutCut() + x.GetStderrCut(); n > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "the middle of the output is missing, %s: there was too much\n",
			plural.Of(n, "byte"))
	}
	switch {
	case x.GetTimedOut():
		return cli.WithCode(errors.New("the command was ended by its timeout"), int(x.GetExitCode()))
	case x.GetExitCode() != 0:
		return cli.WithCode(fmt.Errorf("the command ended with code %d", x.GetExitCode()), int(x.GetExitCode()))
	}
	return nil
}
