package work

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/executor/mcp"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// askServer makes a request to an MCP server.
func (s *Service) askServer(ctx context.Context, c *call, q *pawlv1.McpRequest) (*pawlv1.Result_Mcp, error) {
	spec := mcp.Spec{
		ID: q.GetServerId(), Name: q.GetName(), Program: q.GetProgram(), Args: slices.Clone(q.GetArgs()),
		Cwd: q.GetCwd(), Env: map[string]*string{},
	}
	for name, value := range c.exec.GetEnv() {
		spec.Env[name] = &value
	}
	for _, name := range c.exec.GetUnsetEnv() {
		spec.Env[name] = nil
	}
	if p := q.GetPlugin(); p != nil {
		if err := s.ofPlugin(ctx, &spec, p); err != nil {
			return nil, err
		}
	} else {
		spec.Cwd = s.fromHome(c, spec.Cwd)
	}
	r, err := s.servers.Do(ctx, spec, mcp.Request{
		Method: q.GetMethod(), Params: q.GetParams(), Progress: func(p mcpclient.Progress) { s.progressed(c, p) },
	})
	out := &pawlv1.McpResult{Method: q.GetMethod(), Result: r.JSON}
	for _, question := range r.Declined {
		out.Declined = append(out.Declined, valid(question))
	}
	var refused *mcpclient.Error
	switch {
	case errors.As(err, &refused):
		out.ErrorCode, out.Error = refused.Code, valid(refused.Message)
	case err != nil && ctx.Err() != nil && s.isCancelled(c):
		return nil, sandbox.ErrCancelled
	case err != nil:
		return nil, err
	}
	return &pawlv1.Result_Mcp{Mcp: out}, nil
}

// ofPlugin puts a server where its plugin is.
func (s *Service) ofPlugin(ctx context.Context, spec *mcp.Spec, p *pawlv1.McpPlugin) error {
	sb := s.cfg.Sandbox
	place := func(p string) (string, error) {
		if below, ok := strings.CutPrefix(p, "~/"); ok {
			p = path.Join(sb.Home(), below)
		}
		return sb.Locate(ctx, p)
	}
	root, err := place(p.GetRoot())
	if err != nil {
		return err
	}
	data, err := place(p.GetData())
	if err == nil {
		err = sb.MakeDir(ctx, data, true)
	}
	if err != nil {
		return err
	}
	replace := strings.NewReplacer("${PLUGIN_ROOT}", root, "${PLUGIN_DATA}", data).Replace
	if within, ok := strings.CutPrefix(spec.Program, "./"); ok {
		spec.Program = path.Join(root, within)
	}
	for i, arg := range spec.Args {
		spec.Args[i] = replace(arg)
	}
	spec.Env["PYTHONDONTWRITEBYTECODE"] = new("1") // what it leaves behind would make the copy another one
	for name, value := range p.GetEnv() {
		value = replace(value)
		spec.Env[name] = &value
	}
	spec.Env["PLUGIN_ROOT"], spec.Env["PLUGIN_DATA"] = &root, &data
	cwd := replace(spec.Cwd)
	if !path.IsAbs(cwd) {
		cwd = path.Join(root, cwd)
	}
	if spec.Cwd, err = sb.Locate(ctx, cwd); err != nil {
		return err
	}
	if !isIn(spec.Cwd, root) && !isIn(spec.Cwd, data) {
		return sandbox.ErrInvalidArg.With("MCP server %s: its directory %s is neither in its plugin nor in its data",
			spec.Name, spec.Cwd)
	}
	if isIn(spec.Cwd, data) {
		return sb.MakeDir(ctx, spec.Cwd, true)
	}
	return nil
}

// isIn reports whether a place is another one, or in it.
func isIn(place, other string) bool { return place == other || strings.HasPrefix(place, other+"/") }

// maxProgress bounds the bytes of what is said of a call's progress.
const maxProgress = 500

// progressed tells control how far a call is, if it is connected.
func (s *Service) progressed(c *call, p mcpclient.Progress) {
	text := valid(p.Message)
	for len(text) > maxProgress || !utf8.ValidString(text) {
		text = text[:min(len(text)-1, maxProgress)]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.loose() {
		return // whoever waits wants the result only
	}
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Progress{Progress: &pawlv1.Progress{
		CallId: c.id(), Progress: p.Progress, Total: p.Total, Message: text,
	}}})
}

// serverChanged tells control that a server has changed its list of tools.
func (s *Service) serverChanged(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_McpChanged{McpChanged: &pawlv1.McpChanged{
		ServerId: valid(id),
	}}})
}
