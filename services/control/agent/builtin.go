package agent

// Shell is the built-in agent that runs the user's message as a shell command. It needs no key.
func Shell() Definition { return Definition{} }
