package agent

import "strings"

// Surroundings is what a system prompt tells of when the agent runs. It must not change within a session: the prompt is
// the prefix that providers cache. What is told of where it runs is an entry of the conversation.
type Surroundings struct {
	Date string // as it is to be shown; "" leaves it out
}

// headless tells the model that nobody is there to answer.
const headless = "You work on your own, inside an automated system. No human follows along, and nobody can answer " +
	"you while you work: " +
	"never ask a question, and never wait for an approval, a choice or more input. Where the task leaves something " +
	"open, take the " +
	"most sensible reading, go on, and name your assumption at the end. When you cannot go on, say what is in the " +
	"way and what is " +
	"done so far. Your last message is what gets read: it must make sense on its own."

// SystemPrompt assembles the system prompt: how to work without a human, the instructions, skills, the surroundings.
// Equal arguments give equal prompts.
func SystemPrompt(d Definition, s Surroundings) string {
	parts := []string{headless}
	if d.Instructions != "" {
		parts = append(parts, d.Instructions)
	}
	if catalogue := d.catalogue(); catalogue != "" {
		parts = append(parts, catalogue)
	}
	if s.Date != "" {
		parts = append(parts, "Date: "+s.Date)
	}
	return strings.Join(parts, "\n\n")
}
