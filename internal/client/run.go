package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// Alone is a control plane of a command's own, for when none runs.
type Alone interface {
	// Flags adds those that it needs.
	Flags(f *pflag.FlagSet)
	// Start starts it. What it has to say goes to logTo. dial connects to it until stop has ended it.
	Start(ctx context.Context, logTo io.Writer) (dial func(context.Context) (*grpc.ClientConn, error),
		stop func() error, err error)
}

// starting is what a command line says of a run.
type starting struct {
	input, key, concurrency string
	follow, detach          bool
}

func runCommand(o *connection) *cobra.Command {
	var say starting
	c := o.json(&cobra.Command{
		Use: "run WORKFLOW", Short: "Run a workflow and print what it results in", Args: cli.Args(1),
		Long: "Run a workflow and print what it results in, as JSON, once it has ended. What its steps come to goes " +
			"to standard error; with --follow also what commands print and what agents do. The exit code is 0 if it " +
			"has completed, 1 if not, and 2 if it cannot be started like this.\n\n" +
			"Ctrl-C offers to cancel the run; a second one does. Whoever leaves does not stop it.\n\n" +
			"Where no control plane runs on --data, and --server names none, this command is one for itself: it " +
			"reads the project in --dir, keeps its state in memory, and runs what steps do on this host. Nothing is " +
			"left of the run then, and Ctrl-C cancels it.",
		Example: "control run audit --input '{\"path\": \".\"}' | jq .findings\n" +
			"control run release --input @release.json --follow\n" +
			"control run nightly --detach",
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args[0], say) },
	})
	o.flags(c)
	f := c.Flags()
	f.StringVar(&say.input, "input", "", "`JSON`: the input, or @FILE for one that holds it; @- is standard input")
	f.StringVar(&say.key, "idempotency-key", "", "`KEY`: started again under this key, it is the same run")
	f.StringVar(&say.concurrency, "concurrency-key", "", "`KEY`: instead of the one that the workflow says")
	f.BoolVar(&say.follow, "follow", false, "show what commands print and what agents do")
	f.BoolVar(&say.detach, "detach", false, "print the id of the run once it is accepted, and do not wait")
	if o.options.Alone != nil {
		o.options.Alone.Flags(f)
	}
	return c
}

// request is what is asked for. What the command line says wrongly is misuse.
func (s *starting) request(c *cobra.Command, workflow string) (*pawlv1.StartRunRequest, error) {
	if s.follow && s.detach {
		return nil, cli.Misused(c, errors.New("give one of --follow and --detach"))
	}
	req := &pawlv1.StartRunRequest{
		Workflow: workflow, IdempotencyKey: s.key, ConcurrencyKey: s.concurrency,
	}
	if s.key == "" {
		req.IdempotencyKey = ident.New() // asked again after an answer that was lost, it is the same run
	}
	var err error
	req.Input, err = jsonValue(c, "--input", s.input)
	return req, err
}

// jsonValue is the JSON that a flag says: in itself, in a file or on standard input; nil for none.
func jsonValue(c *cobra.Command, flag, said string) (*structpb.Value, error) {
	if said == "" {
		return nil, nil
	}
	text, from := []byte(said), flag
	if file, ok := strings.CutPrefix(said, "@"); ok {
		var err error
		if from = flag + " " + said; file == "-" {
			text, err = io.ReadAll(io.LimitReader(c.InOrStdin(), maxMessage))
		} else {
			text, err = os.ReadFile(file)
		}
		if err != nil {
			return nil, cli.WithCode(fmt.Errorf("%s: %w", flag, err), cli.Usage)
		}
	}
	v := &structpb.Value{}
	if err := protojson.Unmarshal(text, v); err != nil {
		return nil, cli.WithCode(fmt.Errorf("%s is not JSON", from), cli.Usage)
	}
	return v, nil
}

// run starts a run and follows it, at a control plane that runs, or at one of its own.
func (o *connection) run(c *cobra.Command, workflow string, say starting) error {
	if err := o.checkOutput(c); err != nil {
		return err
	}
	req, err := say.request(c, workflow)
	if err != nil {
		return err
	}
	conn, err := o.dial(c.Context())
	switch {
	case err != nil:
		return err
	case conn != nil:
		if err := conn.Close(); err != nil {
			return err
		}
	case o.options.Alone == nil, say.detach:
		_, err := o.connect(c.Context()) // says how to start one
		return err
	default:
		return o.runAlone(c, req, say)
	}
	if say.detach {
		return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
			res, err := pawlv1.NewRunServiceClient(conn).StartRun(ctx, req)
			if err != nil {
				return refused(ctx, err)
			}
			if o.output == "json" {
				return printJSON(c.OutOrStdout(), res.GetRun())
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), res.GetRun().GetRunId())
			return err
		})
	}
	return o.follow(c, followedRun{req: req, connect: o.connect, all: say.follow})
}

// runAlone runs at a control plane that lasts as long as the command.
func (o *connection) runAlone(c *cobra.Command, req *pawlv1.StartRunRequest, say starting) (err error) {
	dial, stop, err := o.options.Alone.Start(c.Context(), c.ErrOrStderr())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return o.follow(c, followedRun{req: req, connect: dial, all: say.follow, alone: true})
}

// followedRun is a run that is started, or is there, and followed to its end.
type followedRun struct {
	req     *pawlv1.StartRunRequest // nil for one that is there
	id      string
	connect func(context.Context) (*grpc.ClientConn, error)
	all     bool // what commands print and agents do is shown, too
	alone   bool // it ends with this command
	after   int64
}

// follow shows what a run does until it has ended, and then what it came to.
func (o *connection) follow(c *cobra.Command, w followedRun) error {
	p := newPrinter(c.OutOrStdout(), c.ErrOrStderr())
	p.mute, p.seq, p.run = true, w.after, &shownRun{all: w.all}
	interrupts, release := cli.TakeInterrupts(c.Context())
	defer release()
	f := &follower{connect: w.connect, p: p, interrupts: interrupts, offers: p.notes.is || w.alone, alone: w.alone}
	f.open = func(ctx context.Context, conn *grpc.ClientConn) (stream, error) { return w.open(ctx, conn, p) }
	f.end = func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := pawlv1.NewRunServiceClient(conn).CancelRun(ctx, &pawlv1.CancelRunRequest{RunId: w.id})
		return err
	}
	err := f.run(c.Context())
	p.end()
	switch {
	case err != nil && w.id == "":
		return refused(c.Context(), err)
	case err != nil && w.alone:
		return inWords(c.Context(), err)
	case err != nil:
		return fmt.Errorf("%w; run %s is on record and goes on: `control runs get %[2]s`", inWords(c.Context(), err),
			w.id)
	}
	return w.outcome(c, o)
}

// open starts the run, unless it is there, and reads its events after those that were shown.
func (w *followedRun) open(ctx context.Context, conn *grpc.ClientConn, p *printer) (stream, error) {
	runs := pawlv1.NewRunServiceClient(conn)
	if w.id == "" {
		res, err := runs.StartRun(ctx, w.req)
		if err != nil {
			return nil, err
		}
		w.id, p.submission = res.GetRun().GetRunId(), res.GetRun().GetRunId()
		p.note(accepted(res, w.alone))
	}
	s, err := runs.WatchRun(ctx, &pawlv1.WatchRunRequest{RunId: w.id, After: p.seq})
	return func() (batch, error) {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) { // it comes when the run has ended only
			p.done = true
		}
		return batch{events: m.GetEvents()}, err
	}, err
}

// accepted says what became of a start.
func accepted(res *pawlv1.StartRunResponse, alone bool) string {
	switch r := res.GetRun(); {
	case alone:
		return "[run of " + r.GetWorkflow() + "; no control plane runs here, so this command is one]"
	case res.GetReplayed():
		return "[run " + r.GetRunId() + " was started before under this key]"
	case r.GetBlocked():
		return "[run " + r.GetRunId() + " waits for its concurrency key " + r.GetConcurrencyKey() + "]"
	default:
		return "[run " + r.GetRunId() + "]"
	}
}

// outcome prints what the run came to, and fails unless that is its end as it should be.
func (w *followedRun) outcome(c *cobra.Command, o *connection) error {
	conn, err := w.connect(c.Context())
	if err != nil {
		return err
	}
	res, err := pawlv1.NewRunServiceClient(conn).GetRun(c.Context(), &pawlv1.GetRunRequest{RunId: w.id})
	if err := errors.Join(inWords(c.Context(), err), conn.Close()); err != nil {
		return err
	}
	r := res.GetRun()
	completed := r.GetStatus() == pawlv1.RunStatus_RUN_STATUS_COMPLETED
	switch {
	case o.output == "json":
		err = printJSON(c.OutOrStdout(), r)
	case completed:
		output := r.GetOutput()
		if output == nil {
			output = structpb.NewNullValue()
		}
		err = printJSON(c.OutOrStdout(), output)
	}
	if err != nil || completed {
		return err
	}
	return fmt.Errorf("%s: %s: %s", endings[r.GetStatus()], r.GetError().GetReason(), r.GetError().GetMessage())
}

// endings say how a run has ended that has not completed.
var endings = map[pawlv1.RunStatus]string{
	pawlv1.RunStatus_RUN_STATUS_FAILED:      "the run has failed",
	pawlv1.RunStatus_RUN_STATUS_CANCELLED:   "the run was cancelled",
	pawlv1.RunStatus_RUN_STATUS_EXPIRED:     "the time for the run is over",
	pawlv1.RunStatus_RUN_STATUS_INTERRUPTED: "the run was interrupted",
}

// misuses are the reasons of errors about what was typed.
var misuses = map[string]bool{"WORKFLOW_NOT_FOUND": true, "WORKFLOW_INPUT_INVALID": true, "INPUT_TOO_LARGE": true}

// refused is why a run was not started. What was typed wrongly is misuse.
func refused(ctx context.Context, err error) error {
	if misuses[rpc.Reason(err)] {
		return cli.WithCode(inWords(ctx, err), cli.Usage)
	}
	return inWords(ctx, err)
}
