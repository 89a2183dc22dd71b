package rpc

import (
	"context"

	"google.golang.org/grpc/peer"

	"github.com/pawl-dev/pawl/internal/gate"
)

// Prove notes that somebody has authenticated on the connection that a call came over.
func Prove(ctx context.Context) {
	if p, ok := peer.FromContext(ctx); ok {
		gate.Prove(p.Addr)
	}
}
