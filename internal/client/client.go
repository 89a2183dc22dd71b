// Package client is the commands that speak to a control plane: prompt, watch, wait, abort, files, token and the lists.
//
//	flags, variables ──▶ connection ──gRPC──▶ a control plane of this host, by its data directory, or one at --server
//
// It knows the API and the transport only, so that a program without a control plane in it can have the same commands.
//
// Invariants: what others wrote (models, commands, agents) reaches a terminal without control characters; standard
// output has the answer, the list or JSON and nothing else; a command that ends because nobody can be reached has
// the code cli.Unreachable.
package client

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// Options are what a program adds to the commands.
type Options struct {
	// Data is the data directory of a control plane on this host; "" when only --server can say where one is. It is
	// read when a command runs.
	Data *string
	// Database opens the tokens where they are stored, for when no control plane runs. nil: there are none to be
	// had. fresh is whether what does not exist may be made.
	Database func(ctx context.Context, fresh bool) (Tokens, error)
	// Alone is a control plane for `run` alone, for when none runs. nil: there is none.
	Alone Alone
	// State is where the tokens are stored, without secrets.
	State func() string
}

// Tokens are the tokens of a control plane. Close ends the use of them.
type Tokens interface {
	CreateToken(context.Context, *pawlv1.CreateTokenRequest) (*pawlv1.CreateTokenResponse, error)
	ListTokens(context.Context, *pawlv1.ListTokensRequest) (*pawlv1.ListTokensResponse, error)
	RevokeToken(context.Context, *pawlv1.RevokeTokenRequest) (*pawlv1.RevokeTokenResponse, error)
	io.Closer
}

// Commands makes the commands.
func Commands(o Options) []*cobra.Command {
	var all []*cobra.Command
	for _, command := range []func(*connection) *cobra.Command{
		promptCommand, watchCommand, waitCommand, abortCommand, agentsCommand, executorsCommand, sessionsCommand,
		submissionsCommand, approvalsCommand, deletionsCommand, filesCommand, execCommand, tokenCommand, tenantsCommand,
		modelsCommand, auditCommand, readyCommand, runCommand, runsCommand, workflowsCommand, schedulesCommand,
	} {
		all = append(all, command(&connection{options: o}))
	}
	return all
}
