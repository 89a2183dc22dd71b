package agent

// Surroundings is what a system prompt tells of where the agent runs. It must not change within a session: the prompt is the
// prefix that providers cache.
type Surroundings struct {
	Cwd  string // absolute; "" when there is none
	Date string // as it is to be shown; "" leaves it out
}

// SystemPrompt assembles the system prompt: how to work without a human, the instructions, the surroundings.
func SystemPrompt(d Definition, s Surroundings) string { return "" }
