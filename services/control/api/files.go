package api

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/files"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

const (
	maxPath = 4096
	maxData = 1 << 20
)

// Failures of requests for files. The reason INVALID_ARG is the executors' too.
var (
	errFileRequest = errs.New(errs.InvalidArgument, "INVALID_ARG", "the request is not valid")
	errNoTool      = errs.New(errs.PermissionDenied, "TOOL_MISSING", "the agent has no tool that does this")
	errNoSandbox   = errs.New(errs.FailedPrecondition, "NO_SANDBOX", "the agent has no sandbox, so its sessions have "+
		"no files")
)

type fileHandler struct {
	pawlv1.UnimplementedFileServiceServer
	deps Deps
}

// access is what a verb does to a workspace. A session's agent may do it with one of its tools: a client never gets more
// of a workspace than the agent has.
type access struct {
	what string
	tool.Access
	known bool // the session has to exist: nobody means to run a command in one whose name is misspelt
}

var (
	readFiles   = access{"reads files", tool.ReadsFiles, false}
	listFiles   = access{"lists files", tool.ListsFiles, false}
	writeFiles  = access{"writes files", tool.WritesFiles, false}
	removeFiles = access{"removes files", tool.RemovesFiles, false}
	runCommands = access{"runs commands", tool.RunsCommands, true}
)

// allows is an error when an agent has none of the tools.
func (a access) allows(def agent.Definition) error {
	some := builtin.Tools().Allows(a.Access).Names()
	if slices.ContainsFunc(some, func(t string) bool { return slices.Contains(def.Tools, t) }) {
		return nil
	}
	return errNoTool.With("agent %s has no tool that %s (%s)", def.Name, a.what, strings.Join(some, ", "))
}

// place is where a request goes.
type place struct{ executor, cwd string }

// locate finds the place of a target that the caller may use so.
func (f *fileHandler) locate(ctx context.Context, t *pawlv1.FileTarget, path string, use access) (place, error) {
	if err := may(ctx, auth.UseFiles, auth.Resource{}); err != nil {
		return place{}, err
	}
	var at place
	var err error
	switch {
	case t.GetExecutorId() != "":
		if err := may(ctx, auth.UseExecutors, auth.Resource{}); err != nil {
			return place{}, err
		}
		at.executor, err = t.GetExecutorId(), checkRef("target.executor_id", t.GetExecutorId())
	case t.GetSession() != nil:
		at, err = f.workspace(ctx, decodeKey(ctx, t.GetSession()), use)
	case t.GetSessionId() != "":
		var k session.Key
		if k, err = f.keyOf(ctx, t.GetSessionId()); err == nil {
			at, err = f.workspace(ctx, k, use)
		}
	default:
		err = errFileRequest.With("the target is missing: name a session or an executor")
	}
	if err != nil {
		return place{}, err
	}
	return at, checkPath(path)
}

// keyOf is the key of a session that the caller may use.
func (f *fileHandler) keyOf(ctx context.Context, id string) (session.Key, error) {
	if err := checkID(id, session.ErrNotFound); err != nil {
		return session.Key{}, err
	}
	one, err := f.deps.Sessions.GetSession(ctx, tenant(ctx), id)
	if err != nil {
		return session.Key{}, err
	}
	foreign := auth.Resource{Agent: one.Key.Agent, Instance: one.Key.Instance, Missing: session.ErrNotFound}
	return one.Key, may(ctx, auth.UseFiles, foreign)
}

// workspace is the place of a session: where it is bound, or where it would be placed now.
func (f *fileHandler) workspace(ctx context.Context, k session.Key, use access) (place, error) {
	if err := may(ctx, auth.UseFiles, auth.Resource{Agent: k.Agent, Missing: agent.Missing(k.Agent)}); err != nil {
		return place{}, err
	}
	if err := may(ctx, auth.UseFiles, auth.Resource{Instance: k.Instance}); err != nil {
		return place{}, err
	}
	def, err := f.deps.Agents.Get(k.Tenant, k.Agent)
	if err = errors.Join(err, ident.CheckInstance(k.Instance), ident.CheckSession(k.Name)); err != nil {
		return place{}, err
	}
	if def.Sandbox.Kind == agent.SandboxNone {
		return place{}, errNoSandbox
	}
	if err := use.allows(def); err != nil {
		return place{}, err
	}
	s, err := f.deps.Sessions.FindSession(ctx, k)
	if errors.Is(err, session.ErrNotFound) && use.known {
		return place{}, session.ErrNotFound.With("no such session of agent %s: the first prompt makes one", k.Agent)
	}
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return place{}, err
	}
	e, ok, err := f.deps.Placer.Place(ctx, fleet.Wanted{
		Tenant: k.Tenant, Executor: s.Executor, Labels: def.Sandbox.Labels, Builtin: f.deps.Builtin,
	})
	switch {
	case err != nil:
		return place{}, err
	case !ok && s.Executor != "":
		return place{}, files.ErrAway.With("the session's workspace is on executor %s, which is not connected; try "+
			"again", s.Executor)
	case !ok:
		return place{}, files.ErrAway.With("no executor that is connected would do for the agent; try again")
	}
	return place{executor: e.ID, cwd: def.Cwd}, nil
}

func checkPath(p string) error {
	switch {
	case p == "":
		return errFileRequest.With("the path is empty")
	case len(p) > maxPath:
		return errFileRequest.With("the path has %d bytes; %d are the most", len(p), maxPath)
	case strings.ContainsRune(p, 0):
		return errFileRequest.With("a path cannot hold a NUL")
	}
	return nil
}

func checkArchive(a pawlv1.Archive) error {
	if a != pawlv1.Archive_ARCHIVE_UNSPECIFIED && a != pawlv1.Archive_ARCHIVE_TAR {
		return errFileRequest.With("the kind of archive %d is not known", a)
	}
	return nil
}

// maxHashes is how many hashes a condition names at most.
const maxHashes = 64

func checkCondition(c *pawlv1.FileCondition) error {
	all := slices.Concat(c.GetSha256(), c.GetNotSha256())
	switch {
	case len(all) > maxHashes:
		return errFileRequest.With("a condition names %d hashes; %d are the most", len(all), maxHashes)
	case slices.ContainsFunc(all, func(sum []byte) bool { return len(sum) != 32 }):
		return errFileRequest.With("a sha256 has 32 bytes")
	}
	return nil
}

// do runs a verb that answers with its result alone.
func (f *fileHandler) do(
	ctx context.Context, t *pawlv1.FileTarget, path string, use access, verb *pawlv1.Execute,
) (*pawlv1.Result, error) {
	at, err := f.locate(ctx, t, path, use)
	if err != nil {
		return nil, err
	}
	verb.Cwd = at.cwd
	return f.deps.Files.Do(ctx, &files.Request{Executor: at.executor, Verb: verb})
}

// ReadFile implements FileService.
func (f *fileHandler) ReadFile(
	req *pawlv1.ReadFileRequest, stream grpc.ServerStreamingServer[pawlv1.ReadFileResponse],
) error {
	at, err := f.locate(stream.Context(), req.GetTarget(), req.GetPath(), readFiles)
	if err == nil && req.GetArchive() != pawlv1.Archive_ARCHIVE_UNSPECIFIED {
		_, err = f.locate(stream.Context(), req.GetTarget(), req.GetPath(), listFiles)
	}
	if err != nil {
		return err
	}
	if req.Length != nil && req.GetLength() < 0 {
		return errFileRequest.With("a length is not negative")
	}
	if err := checkArchive(req.GetArchive()); err != nil {
		return err
	}
	res, err := f.deps.Files.Do(stream.Context(), &files.Request{
		Executor: at.executor,
		Verb: &pawlv1.Execute{Cwd: at.cwd, Verb: &pawlv1.Execute_ReadFile{
			ReadFile: &pawlv1.ReadFile{
				Path: req.GetPath(), Offset: req.GetOffset(), Length: req.Length, Archive: req.GetArchive(),
			},
		}},
		Opened: func(facts files.Facts) error {
			return stream.Send(&pawlv1.ReadFileResponse{Part: &pawlv1.ReadFileResponse_Opened_{
				Opened: &pawlv1.ReadFileResponse_Opened{
					ExecutorId: at.executor, Size: facts.Size, Sha256: facts.Sha256,
				},
			}})
		},
		Take: func(_ pawlv1.Stream, data []byte) error {
			return stream.Send(&pawlv1.ReadFileResponse{Part: &pawlv1.ReadFileResponse_Data{Data: data}})
		},
	})
	if err != nil {
		return err
	}
	return stream.Send(&pawlv1.ReadFileResponse{Part: &pawlv1.ReadFileResponse_Done{Done: encodeDigest(res)}})
}

func encodeDigest(res *pawlv1.Result) *pawlv1.FileDigest {
	return &pawlv1.FileDigest{Size: res.GetFile().GetSize(), Sha256: res.GetFile().GetSha256()}
}

// WriteFile implements FileService.
func (f *fileHandler) WriteFile(
	stream grpc.ClientStreamingServer[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse],
) error {
	if err := may(stream.Context(), auth.UseFiles, auth.Resource{}); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errFileRequest.With("the first message must be start")
	}
	at, err := f.locate(stream.Context(), start.GetTarget(), start.GetPath(), writeFiles)
	if err != nil {
		return err
	}
	if err := errors.Join(checkArchive(start.GetArchive()), checkCondition(start.GetCondition())); err != nil {
		return err
	}
	if start.GetArchive() != 0 && start.GetCondition() != nil {
		return errFileRequest.With("an archive is unpacked without a condition")
	}
	res, err := f.deps.Files.Do(stream.Context(), &files.Request{
		Executor: at.executor,
		Verb: &pawlv1.Execute{Cwd: at.cwd, Verb: &pawlv1.Execute_WriteFile{
			WriteFile: &pawlv1.WriteFile{
				Path: start.GetPath(), Chunked: true, Condition: start.GetCondition(), Archive: start.GetArchive(),
			},
		}},
		Next: func() (*pawlv1.Input, error) { return content(stream) },
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&pawlv1.WriteFileResponse{
		Written: encodeDigest(res), ExecutorId: at.executor, Created: res.GetFile().GetCreated(),
	})
}

// content is the next piece of what a caller writes.
func content(
	stream grpc.ClientStreamingServer[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse],
) (*pawlv1.Input, error) {
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, errFileRequest.With("the content has no end; nothing was written")
	}
	if err != nil {
		return nil, err
	}
	switch part := m.GetPart().(type) {
	case *pawlv1.WriteFileRequest_Data:
		if len(part.Data) > maxData {
			return nil, errFileRequest.With("a message has %d bytes of content; %d are the most; nothing was written",
				len(part.Data), maxData)
		}
		return &pawlv1.Input{Data: part.Data}, nil
	case *pawlv1.WriteFileRequest_End_:
		if n := len(part.End.GetSha256()); n != 0 && n != 32 {
			return nil, errFileRequest.With("a sha256 has 32 bytes, not %d; nothing was written", n)
		}
		return &pawlv1.Input{Last: true, Sha256: part.End.GetSha256()}, nil
	}
	return nil, errFileRequest.With("after start come data and end; nothing was written")
}
