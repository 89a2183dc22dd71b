package flue

// Agent is an agent as the admin routes list it.
type Agent struct {
	Name       string     `json:"name"`
	Transports Transports `json:"transports"`
	Created    bool       `json:"created"`
}

// Transports are the ways over which an agent is offered.
type Transports struct {
	HTTP      bool `json:"http,omitempty"`
	WebSocket bool `json:"websocket,omitempty"`
}
