package api

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/link/files"
)

const (
	maxCommand = 1 << 20
	maxEnv     = 64 << 10 // bytes of all variables
)

// Exec implements FileService.
func (f *fileHandler) Exec(stream grpc.BidiStreamingServer[pawlv1.ExecRequest, pawlv1.ExecResponse]) error {
	if err := may(stream.Context(), auth.RunCommands, auth.Resource{}); err != nil {
		return err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return errFileRequest.With("the first message must name a command")
	}
	if err != nil {
		return err
	}
	at, err := f.locate(stream.Context(), first.GetTarget(), ".", runCommands)
	if err == nil {
		err = checkCommand(first)
	}
	if err != nil {
		return err
	}
	send := &speaker{stream: stream}
	res, err := f.deps.Files.Do(stream.Context(), &files.Request{
		Executor: at.executor,
		Verb: &pawlv1.Execute{Cwd: at.cwd, Verb: &pawlv1.Execute_Exec{Exec: &pawlv1.Exec{
			Command: first.GetCommand(), Cwd: first.GetCwd(), Env: first.GetEnv(), Timeout: first.GetTimeout(),
			Stdin: true,
		}}},
		Next: (&listener{stream: stream, first: first}).next,
		Opened: func(files.Facts) error {
			return stream.Send(&pawlv1.ExecResponse{Part: &pawlv1.ExecResponse_Started_{
				Started: &pawlv1.ExecResponse_Started{ExecutorId: at.executor},
			}})
		},
		Take: send.take,
	})
	if err != nil {
		return err
	}
	if err := send.flush(); err != nil {
		return err
	}
	x := res.GetExec()
	return stream.Send(&pawlv1.ExecResponse{Part: &pawlv1.ExecResponse_Exited_{Exited: &pawlv1.ExecResponse_Exited{
		ExitCode: x.GetExitCode(), Signal: x.GetSignal(), TimedOut: x.GetTimedOut(),
		StdoutCut: x.GetStdout().GetCut(), StderrCut: x.GetStderr().GetCut(),
	}}})
}

func checkCommand(r *pawlv1.ExecRequest) error {
	size := 0
	for name, value := range r.GetEnv() {
		size += len(name) + len(value)
	}
	texts := slices.Concat([]string{r.GetCommand(), r.GetCwd()}, slices.Collect(maps.Values(r.GetEnv())))
	switch {
	case strings.TrimSpace(r.GetCommand()) == "":
		return errFileRequest.With("the first message must name a command")
	case len(r.GetCommand()) > maxCommand:
		return errFileRequest.With("the command has %d bytes; %d are the most", len(r.GetCommand()), maxCommand)
	case len(r.GetCwd()) > maxPath:
		return errFileRequest.With("the working directory has %d bytes; %d are the most", len(r.GetCwd()), maxPath)
	case size > maxEnv:
		return errFileRequest.With("the variables have %d bytes; %d are the most", size, maxEnv)
	case slices.ContainsFunc(texts, func(s string) bool { return strings.ContainsRune(s, 0) }):
		return errFileRequest.With("a command, a working directory and a variable cannot hold a NUL")
	case r.GetTimeout() != nil && (!r.GetTimeout().IsValid() || r.GetTimeout().AsDuration() <= 0):
		return errFileRequest.With("a timeout is longer than nothing")
	}
	return nil
}

// listener reads the input of a command.
type listener struct {
	stream grpc.BidiStreamingServer[pawlv1.ExecRequest, pawlv1.ExecResponse]
	first  *pawlv1.ExecRequest // until its input was read
}

func (l *listener) next() (*pawlv1.Input, error) {
	m := l.first
	l.first = nil
	if m == nil {
		var err error
		m, err = l.stream.Recv()
		if errors.Is(err, io.EOF) {
			return &pawlv1.Input{Last: true}, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if len(m.GetStdin()) > maxData {
		return nil, errFileRequest.With("a message has %d bytes of input; %d are the most", len(m.GetStdin()), maxData)
	}
	return &pawlv1.Input{Data: m.GetStdin()}, nil
}

// speaker sends what a command writes, as text where it is text. The bytes of a character that is not whole yet wait.
type speaker struct {
	stream grpc.BidiStreamingServer[pawlv1.ExecRequest, pawlv1.ExecResponse]
	rest   [2][]byte // of stdout and stderr
}

func (s *speaker) take(from pawlv1.Stream, data []byte) error {
	rest := &s.rest[0]
	if from == pawlv1.Stream_STREAM_STDERR {
		rest = &s.rest[1]
	}
	if len(*rest) > 0 {
		data = append(*rest, data...)
	}
	whole := len(data) - unfinished(data)
	*rest = slices.Clone(data[whole:])
	return s.send(from, data[:whole])
}

// flush sends what will not become whole.
func (s *speaker) flush() error {
	return errors.Join(s.send(pawlv1.Stream_STREAM_STDOUT, s.rest[0]), s.send(pawlv1.Stream_STREAM_STDERR, s.rest[1]))
}

func (s *speaker) send(from pawlv1.Stream, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	p := &pawlv1.ExecResponse_Piece{Content: &pawlv1.ExecResponse_Piece_Data{Data: data}}
	if utf8.Valid(data) {
		p.Content = &pawlv1.ExecResponse_Piece_Text{Text: string(data)}
	}
	if from == pawlv1.Stream_STREAM_STDERR {
		return s.stream.Send(&pawlv1.ExecResponse{Part: &pawlv1.ExecResponse_Stderr{Stderr: p}})
	}
	return s.stream.Send(&pawlv1.ExecResponse{Part: &pawlv1.ExecResponse_Stdout{Stdout: p}})
}

// unfinished is how many bytes at the end of data begin a character that is not whole.
func unfinished(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if b := data[len(data)-n]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(data[len(data)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}
