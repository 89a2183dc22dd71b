package hub

import (
	"golang.org/x/time/rate"

	"github.com/pawl-dev/pawl/services/control/mcp"
)

// Generation is how often a server has said that its list has changed.
func (h *Hub) Generation(tenant string, d mcp.Definition) int64 {
	s, release := h.use(tenant, d)
	defer release()
	s.known.Lock()
	defer s.known.Unlock()
	return s.conn.Generation()
}

// Rest is as if the server had said nothing for a while.
func (h *Hub) Rest(tenant string, d mcp.Definition) {
	s, release := h.use(tenant, d)
	defer release()
	s.relist.SetLimit(rate.Inf)
}

// Hold makes sessions be replaced that have read so many bytes.
func (h *Hub) Hold(bytes int64) { h.held = bytes }

// Forget ends all sessions.
func (h *Hub) Forget() { h.evict(-1) }
