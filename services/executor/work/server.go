package work

import (
	"context"
	"errors"
	"unicode/utf8"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/executor/mcp"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// askServer makes a request to an MCP server.
func (s *Service) askServer(ctx context.Context, c *call, q *pawlv1.McpRequest) (*pawlv1.Result_Mcp, error) {
	spec := mcp.Spec{
		ID: q.GetServerId(), Name: q.GetName(), Program: q.GetProgram(), Args: q.GetArgs(),
		Cwd: s.fromHome(c, q.GetCwd()), Env: map[string]*string{},
	}
	for name, value := range c.exec.GetEnv() {
		spec.Env[name] = &value
	}
	for _, name := range c.exec.GetUnsetEnv() {
		spec.Env[name] = nil
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
