package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/ident"
)

// maxMessage is what the API takes.
const maxMessage = 16 << 20

func promptCommand(o *connection) *cobra.Command {
	key := &pawlv1.SessionKey{}
	var verbose, steer, interrupt bool
	var with content
	var start start
	c := o.json(&cobra.Command{
		Use:   "prompt AGENT MESSAGE",
		Short: "Prompt an agent and print its answer",
		Args:  start.arguments,
		Long: "Prompt an agent and print its answer: to a terminal while it comes, elsewhere once, when it is " +
			"complete. What the agent does goes to " +
			"standard error. Long output of commands is folded, unless --verbose. MESSAGE - is standard input.\n\n" +
			"With --skill the agent begins with a skill, of its own or of its workspace, and MESSAGE may be left " +
			"out.\n\n" +
			"Ctrl-C offers to abort; a second one does. Whoever leaves does not stop the work. When the control " +
			"plane ends meanwhile, this " +
			"command waits for it to come back, and goes on.",
		Example: `control prompt shell "uname -a"` + "\n" +
			"git diff | control prompt reviewer - > review.md\n" +
			`control prompt shell "uname -a" -o json | jq -r .result.text` + "\n" +
			`control prompt reviewer "A bug?" --image shot.png --result-schema bug.json` + "\n" +
			`control prompt reviewer --instance 42 --steer "look at the tests first"`,
		RunE: func(c *cobra.Command, args []string) error {
			key.Agent = args[0]
			req := &pawlv1.PromptRequest{Key: key, IdempotencyKey: ident.New()}
			var err error
			if len(args) > 1 {
				req.Message, err = message(c, args[1])
			}
			if err == nil {
				req.Skill, err = start.call(c)
			}
			if err != nil {
				return err
			}
			if err := with.add(req); err != nil {
				return err
			}
			switch {
			case steer && interrupt:
				return cli.Misused(c, errors.New("give one of --steer and --interrupt"))
			case steer:
				req.WhenBusy = pawlv1.WhenBusy_WHEN_BUSY_STEER
			case interrupt:
				req.WhenBusy = pawlv1.WhenBusy_WHEN_BUSY_INTERRUPT
			}
			return with.named(o.prompt(c, req, verbose))
		},
	})
	o.flags(c)
	f := c.Flags()
	f.StringVar(&key.Instance, "instance", "cli", "`INSTANCE`: instance of the agent")
	f.StringVar(&key.Session, "session", "", "`SESSION`: session of the instance (default: default)")
	with.flags(f)
	f.BoolVar(&steer, "steer", false, "when the session is busy, join what runs, before its model is asked again")
	f.BoolVar(&interrupt, "interrupt", false, "when the session is busy, abort what runs, and run next")
	start.flags(f)
	f.BoolVar(&verbose, "verbose", false, "show all that commands print, while they run")
	return c
}

// message is the argument, or standard input when that is -.
func message(c *cobra.Command, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	type read struct {
		text []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(c.InOrStdin(), maxMessage+1))
		done <- read{text, err}
	}()
	select {
	case <-c.Context().Done(): // reading may go on for ever
		return "", errLeft
	case r := <-done:
		text := strings.TrimRight(string(r.text), "\r\n")
		switch {
		case r.err != nil:
			return "", fmt.Errorf("reading the prompt: %w", r.err)
		case len(text) > maxMessage:
			return "", errors.New("the prompt on standard input is longer than 16 MiB")
		case text == "":
			return "", cli.Misused(c, errors.New("standard input holds no prompt"))
		case !utf8.ValidString(text):
			return "", cli.Misused(c, errors.New("standard input is not UTF-8 text"))
		}
		return text, nil
	}
}

// unknown is an error before the answer to a prompt came. Only what the control plane itself said against the prompt
// tells that it was not accepted.
func (f *follower) unknown(ctx context.Context, key *pawlv1.SessionKey, err error) error {
	said := inWords(ctx, err)
	if f.asked && (errors.Is(err, errLeft) || ctx.Err() != nil || cli.Code(err) == cli.Unreachable) {
		return fmt.Errorf("%w; whether the prompt was accepted is not known: `control submissions list %s` tells",
			said, keyText(key))
	}
	return said
}

// prompt follows a prompt to its end. Its key makes a prompt that is made again the same one.
func (o *connection) prompt(c *cobra.Command, req *pawlv1.PromptRequest, verbose bool) error {
	if err := o.checkOutput(c); err != nil {
		return err
	}
	p := newPrinter(c.OutOrStdout(), c.ErrOrStderr())
	p.verbose, p.mute = verbose, o.output == "json"
	interrupts, release := cli.TakeInterrupts(c.Context())
	defer release()
	f := &follower{
		connect: o.connect, p: p, interrupts: interrupts, offers: p.notes.is,
		open: func(ctx context.Context, conn *grpc.ClientConn) (stream, error) {
			s, err := pawlv1.NewSubmissionServiceClient(conn).Prompt(ctx, req)
			return func() (batch, error) {
				m, err := s.Recv()
				return batch{m.GetSubmission(), m.GetEvents()}, err
			}, err
		},
	}
	err := f.run(c.Context())
	p.end()
	switch {
	case p.lost != nil && p.submission != "":
		return fmt.Errorf("%w; `control wait %s` shows it again", p.lost, p.submission)
	case err != nil && p.submission == "":
		return f.unknown(c.Context(), req.GetKey(), err)
	case err != nil:
		return fmt.Errorf("%w; submission %s is on record and goes on: `control wait %[2]s`", inWords(c.Context(), err),
			p.submission)
	case o.output == "json":
		return errors.Join(o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
			res, err := pawlv1.NewSubmissionServiceClient(conn).
				GetSubmission(ctx, &pawlv1.GetSubmissionRequest{SubmissionId: p.submission})
			if err != nil {
				return err
			}
			return printJSON(c.OutOrStdout(), res.GetSubmission())
		}), p.failure)
	}
	return p.failure
}
