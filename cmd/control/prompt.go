package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/ident"
)

func promptCommand(o *options) *cobra.Command {
	key := &pawlv1.SessionKey{}
	var verbose bool
	c := &cobra.Command{
		Use: "prompt AGENT MESSAGE", Short: "Prompt an agent and print its answer while it comes", Args: cli.Args(2),
		Long: "Prompt an agent of the control plane that runs on the data directory. " +
			"The answer goes to standard output, what the agent does and what its commands print to standard error. " +
			"Where both are one terminal, what commands print is left to the answer, unless --verbose.\n\n" +
			"Interrupting this command does not stop the work. When the control plane ends meanwhile, this command waits for it to come back, and goes on.",
		RunE: func(c *cobra.Command, args []string) error {
			key.Agent = args[0]
			p := &printer{out: c.OutOrStdout(), err: c.ErrOrStderr()}
			p.brief = !verbose && oneTerminal(p.out, p.err)
			return o.prompt(c, p, key, args[1])
		},
	}
	c.Flags().StringVar(&key.Instance, "instance", "cli", "instance of the agent")
	c.Flags().StringVar(&key.Session, "session", "", "session of the instance (default: default)")
	c.Flags().BoolVar(&verbose, "verbose", false, "show what commands print while they run on a terminal, too")
	return c
}

// oneTerminal reports whether what is written to both is seen in one place.
func oneTerminal(a, b io.Writer) bool {
	x, okA := a.(*os.File)
	y, okB := b.(*os.File)
	if !okA || !okB {
		return false
	}
	xInfo, errX := x.Stat()
	yInfo, errY := y.Stat()
	return errX == nil && errY == nil && xInfo.Mode()&os.ModeCharDevice != 0 && os.SameFile(xInfo, yInfo)
}

const (
	// returnsWithin is how long a control plane that ended may take to come back and tell more.
	returnsWithin = 2 * time.Minute
	returnsEvery  = 200 * time.Millisecond
)

// prompt follows a prompt to its end. The key makes a prompt that is made again the same one.
func (o *options) prompt(c *cobra.Command, p *printer, key *pawlv1.SessionKey, message string) error {
	req := &pawlv1.PromptRequest{Key: key, Message: message, IdempotencyKey: ident.New()}
	conn, err := o.connect(c.Context())
	if err != nil {
		return err
	}
	var away time.Time // since when nothing was heard
	for {
		heard := p.seq
		if conn != nil {
			err = p.follow(c.Context(), conn, req)
			_ = conn.Close() // of a connection that is done
		}
		switch now := time.Now(); {
		case errors.Is(err, io.EOF):
			return p.failure
		case p.submission == "":
			return told(c.Context(), err)
		case c.Context().Err() != nil, conn != nil && status.Code(err) != codes.Unavailable, !away.IsZero() && p.seq == heard && now.Sub(away) > returnsWithin:
			return fmt.Errorf("%w; submission %s is on record and goes on", told(c.Context(), err), p.submission)
		case away.IsZero() || p.seq > heard:
			away = now
			fmt.Fprintln(p.err, "[the control plane has ended; waiting for it to come back]")
		}
		select {
		case <-c.Context().Done():
		case <-time.After(returnsEvery):
		}
		conn, err = o.connect(c.Context())
	}
}

// follow prints what happens; io.EOF once it has settled.
func (p *printer) follow(ctx context.Context, conn *grpc.ClientConn, req *pawlv1.PromptRequest) error {
	stream, err := pawlv1.NewSubmissionServiceClient(conn).Prompt(ctx, req)
	for err == nil {
		var m *pawlv1.PromptResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		if id := m.GetSubmission().GetSubmissionId(); id != "" {
			p.submission = id
		}
		for _, e := range m.GetEvents() {
			if e.GetSeq() > p.seq {
				p.seq = e.GetSeq()
				p.event(e)
			}
		}
	}
	return err
}

// printer writes an answer as it comes. Of an entry it writes what no delta brought.
type printer struct {
	out, err   io.Writer
	brief      bool // without what commands print
	submission string
	seq        int64 // of the last event
	sent       int   // bytes of the text of the message at hand
	failure    error
}

func (p *printer) event(e *pawlv1.Event) {
	switch v := e.GetEvent().(type) {
	case *pawlv1.Event_Text:
		p.text(v.Text.GetText())
	case *pawlv1.Event_Entry:
		p.entry(v.Entry.GetEntry())
	case *pawlv1.Event_Restarted:
		fmt.Fprintf(p.err, "\n[the answer begins anew: %s]\n", v.Restarted.GetMessage())
		p.sent = 0
	case *pawlv1.Event_ToolStarted:
		where := v.ToolStarted.GetExecutorId()
		if where == "" {
			where = "waits for an executor"
		}
		fmt.Fprintf(p.err, "[%s: %s]\n", v.ToolStarted.GetName(), where)
	case *pawlv1.Event_ToolOutput:
		if !p.brief {
			_, _ = p.err.Write(v.ToolOutput.GetData())
		}
	case *pawlv1.Event_Settled:
		if s := v.Settled.GetSubmission(); s.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED {
			p.failure = fmt.Errorf("%s: %s", s.GetError().GetReason(), s.GetError().GetMessage())
		}
	}
}

func (p *printer) text(s string) {
	p.sent += len(s)
	_, _ = io.WriteString(p.out, s)
}

func (p *printer) entry(e *pawlv1.Entry) {
	if e.GetKind() != "assistant" {
		return
	}
	skip := p.sent
	for _, b := range e.GetMessage().GetContent() {
		text := b.GetText()
		n := min(skip, len(text))
		skip -= n
		p.text(text[n:])
	}
	if p.sent > 0 {
		_, _ = io.WriteString(p.out, "\n")
	}
	p.sent = 0
}
