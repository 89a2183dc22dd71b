package provider

import (
	"regexp"
	"sync"
)

// overflow are the words in which providers say that a conversation is too long. There is no code that they share.
var overflow = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)` +
		`prompt is too long|request_too_large|input is too long for requested model|exceeds the context window|` +
		`exceeds (the |model'?s )?maximum context length|input token count.*exceeds the maximum|maximum prompt length is \d+|` +
		`reduce the length of the messages|maximum context length is \d+ tokens|exceeds maximum allowed input length of \d+|` +
		`input \(\d+ tokens\) is longer than the model'?s context length|exceeds the limit of \d+|exceeds the available context size|` +
		`greater than the context length|context window exceeds limit|exceeded model token limit|` +
		`too large for model with \d+ maximum context length|model_context_window_exceeded|prompt too long|` +
		`exceeded (max )?context length|context[_ ]length[_ ]exceeded|too many (input )?tokens|token limit exceeded|` +
		`exceed context limit|input tokens exceed|number of input tokens exceeds|request payload size exceeds`)
})

// throttle are words of errors that are about speed, not length.
var throttle = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)throttling error|service unavailable|rate limit|too many requests`)
})

// isOverflow reports whether a message of a refused request speaks of a conversation that is too long.
func isOverflow(message string) bool {
	return overflow().MatchString(message) && !throttle().MatchString(message)
}
