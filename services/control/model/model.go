// Package model calls language models.
//
// A Model is one streaming call: a Request in, Parts out. Providers sit behind it; the rest of control never sees one.
//
//	Request ──▶ Stream ──▶ Text* Thinking* ToolCall* … Usage Finish
//
// Invariants: a stream that ends without Finish ended in an error; every error is an *Error, which says whether trying
// again can help, or the context's; a provider's key never appears in a part or an error.
//
// What every provider needs is said once, by decorators. A Registry stacks them for each model that it opens:
//
//	Retrying ( Limited ( Timeouts ( provider ) ) )
//
// Tool calls may be acted on only after PartFinish: until then a PartRestart may void them.
package model

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"strings"
	"time"
)

// Role says who speaks.
type Role string

// Roles of a message.
const (
	User      Role = "user"
	Assistant Role = "assistant"
	ToolRole  Role = "tool"
)

// Message is one item of a conversation, in the form that is journaled.
type Message struct {
	Role    Role    `json:"role"`
	Content []Block `json:"content"`
	// Model, Usage and Stop describe the call that made an assistant message.
	Model *Ref   `json:"model,omitempty"`
	Usage *Usage `json:"usage,omitempty"`
	Stop  Stop   `json:"stop,omitempty"`
	// From is who said a user's message. No model is told.
	From *Speaker `json:"from,omitempty"`
	// Summary is set in the message that stands for earlier ones, whose text is the summary. No model is told.
	Summary *Summary `json:"summary,omitempty"`
	// Keep says that no summary stands for the message: the model is told it as it is for as long as the conversation
	// goes on.
	Keep bool `json:"keep,omitempty"`
}

// Summary is what a summary stands for: the entries From to To of a conversation. Its text says what older summaries
// said, too.
type Summary struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Keeps are entries up to To that models are told as they are, in order.
	Keeps []int64 `json:"keeps,omitempty"`
	// Began is when the conversation did.
	Began time.Time `json:"began"`
	// Read and Changed are the files that calls up to To have named, the last ones of many.
	Read    []string `json:"read,omitempty"`
	Changed []string `json:"changed,omitempty"`
	// Turns is how many answers to the latest input, if that is one of Keeps, have asked for calls.
	Turns int `json:"turns,omitempty"`
	// Why is what made it necessary: threshold, overflow or manual.
	Why string `json:"why"`
}

// noteBegins a text that control itself has put into a conversation.
const noteBegins = "[Note of the control plane] "

// Note is what control tells a model while it works, in the role of the user: providers know no other one.
func Note(text string) Message {
	return Message{Role: User, Content: []Block{{Type: TextBlock, Text: noteBegins + text}}}
}

// IsNote reports whether Note has made the message.
func (m Message) IsNote() bool {
	return m.Role == User && len(m.Content) == 1 && strings.HasPrefix(m.Content[0].Text, noteBegins)
}

// Speaker is who submitted an input.
type Speaker struct {
	TokenID    string `json:"token_id,omitempty"`
	Role       string `json:"role,omitempty"`         // of a client
	Name       string `json:"name,omitempty"`         // of the token
	OnBehalfOf string `json:"on_behalf_of,omitempty"` // for whom the caller says it speaks
}

// BlockType tells which fields of a Block are used.
type BlockType string

// Types of block.
const (
	TextBlock       BlockType = "text"        // Text
	ThinkingBlock   BlockType = "thinking"    // Text, Opaque (signatures)
	ToolCallBlock   BlockType = "tool_call"   // CallID, Tool, Args, ArgsError
	ToolResultBlock BlockType = "tool_result" // CallID, Tool, Text, Image, IsError, Details
	ImageBlock      BlockType = "image"       // Image
	FileBlock       BlockType = "file"        // Text: the path of a file in the workspace that a user refers to
)

// Block is one piece of a message.
type Block struct {
	Type   BlockType `json:"type"`
	Text   string    `json:"text,omitempty"`
	CallID string    `json:"call_id,omitempty"` // the provider's id of a tool call, echoed by its result
	Tool   string    `json:"tool,omitempty"`
	// Args are JSON. ArgsError says why what the model wrote could not be read as such, and shows it: the call is not
	// made, the model is told, and Args are an empty object.
	Args      json.RawMessage `json:"args,omitempty"`
	ArgsError string          `json:"args_error,omitempty"`
	IsError   bool            `json:"is_error,omitempty"`
	Details   json.RawMessage `json:"details,omitempty"` // for clients, never sent to the model
	Image     *Image          `json:"image,omitempty"`
	// Opaque is provider metadata (signatures and the like), handed back unchanged to the same provider only.
	Opaque json.RawMessage `json:"opaque,omitempty"`
}

// Beside reports whether a block of a user's message is told beside what the user has said.
func (b Block) Beside() bool { return b.Type == TextBlock && len(b.Details) > 0 }

// Image is an image given to a model. A journaled one may be named only, by its hash; in a request it has its data.
type Image struct {
	MediaType string `json:"media_type"`
	Data      []byte `json:"data,omitempty"`
	SHA256    string `json:"sha256,omitempty"` // hex, of one without data
	Size      int    `json:"size,omitempty"`   // in bytes, of one without data
}

// Bytes is the size of the image, whether or not its data are there.
func (i *Image) Bytes() int { return max(len(i.Data), i.Size) }

// Ref names a model as "provider/id".
type Ref struct {
	Provider string `json:"provider"`
	ID       string `json:"id"`
}

// String is "provider/id".
func (r Ref) String() string { return r.Provider + "/" + r.ID }

// Thinking is how much a model should think before it answers.
type Thinking string

// Levels of thinking; "" is the model's own default.
const (
	ThinkingOff     Thinking = "off"
	ThinkingMinimal Thinking = "minimal"
	ThinkingLow     Thinking = "low"
	ThinkingMedium  Thinking = "medium"
	ThinkingHigh    Thinking = "high"
	ThinkingXHigh   Thinking = "xhigh"
)

// Tool is a tool that the model may call.
type Tool struct {
	Name        string
	Description string
	Schema      json.RawMessage // JSON Schema of the arguments, type object
	// Strict asks the provider to enforce the schema, which is one that strict modes of providers take.
	Strict bool `json:",omitempty"`
	// Hosted says that the provider runs the tool itself while its model answers: WebSearch is the only one. Models
	// whose API has none are not offered it.
	Hosted bool `json:",omitempty"`
}

// WebSearch is the provider's own search of the web.
var WebSearch = Tool{Name: "web_search", Hosted: true}

// SameTools compares texts that are usually the same memory, which takes no time.
func SameTools(a, b []Tool) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Description != b[i].Description || a[i].Strict != b[i].Strict ||
			a[i].Hosted != b[i].Hosted || string(a[i].Schema) != string(b[i].Schema) {
			return false
		}
	}
	return true
}

// Request is one call of a model.
type Request struct {
	System    string
	Messages  []Message // ends with a user or tool message
	Tools     []Tool
	Thinking  Thinking
	MaxOutput int    // tokens; 0 is the model's own limit
	CacheKey  string // stable per session, for providers that route their prompt cache by it
	// MustCall asks for an answer that calls a tool. Providers are asked for it where that costs neither their cache
	// nor thoughts; others may answer without.
	MustCall bool `json:",omitempty"`
	Sums     bool // a summary is asked for, which System says to models that can read
	// Memo belongs to the conversation that Messages are; nil when a call stands alone.
	Memo *Memo `json:"-"`
}

// Usage counts tokens. CacheRead and CacheWrite are not part of Input.
type Usage struct {
	Input      int64 `json:"input,omitzero"`
	Output     int64 `json:"output,omitzero"`
	CacheRead  int64 `json:"cache_read,omitzero"`
	CacheWrite int64 `json:"cache_write,omitzero"`
	// Searches is how often the provider has searched the web, as far as it tells.
	Searches int64 `json:"searches,omitzero"`
	Cost     Cost  `json:"cost,omitzero"`
}

// Total is all tokens of the call.
func (u Usage) Total() int64 { return u.Input + u.Output + u.CacheRead + u.CacheWrite }

// Add sums two usages.
func (u Usage) Add(v Usage) Usage {
	return Usage{
		Input: u.Input + v.Input, Output: u.Output + v.Output,
		CacheRead: u.CacheRead + v.CacheRead, CacheWrite: u.CacheWrite + v.CacheWrite,
		Searches: u.Searches + v.Searches,
		Cost: Cost{
			Input: u.Cost.Input + v.Cost.Input, Output: u.Cost.Output + v.Cost.Output,
			CacheRead: u.Cost.CacheRead + v.Cost.CacheRead, CacheWrite: u.Cost.CacheWrite + v.Cost.CacheWrite,
			Search: u.Cost.Search + v.Cost.Search,
		},
	}
}

// Cost is an estimate in US dollars, from catalogue prices; 0 where the price is unknown.
type Cost struct {
	Input      float64 `json:"input,omitzero"`
	Output     float64 `json:"output,omitzero"`
	CacheRead  float64 `json:"cache_read,omitzero"`
	CacheWrite float64 `json:"cache_write,omitzero"`
	Search     float64 `json:"search,omitzero"`
}

// Total is the whole estimate.
func (c Cost) Total() float64 { return c.Input + c.Output + c.CacheRead + c.CacheWrite + c.Search }

// Stop is why a model stopped.
type Stop string

// Reasons to stop. StopLength counts as success.
const (
	StopEnd    Stop = "stop"
	StopLength Stop = "length"
	StopTools  Stop = "tool_use"
)

// PartType tells which fields of a Part are used.
type PartType uint8

// Types of part.
const (
	PartText     PartType = iota + 1 // Text: a delta
	PartThinking                     // Text: a delta
	// Block: a text, thinking or tool call block is complete; deltas before it belong to it
	PartBlock
	PartFinish  // Usage, Stop: the last part
	PartRestart // Restart: the call is made again; every part before this one is void
	// PartProgress says that an event came that is no part yet, as while a long tool call is written. Timeouts keeps it
	// to itself.
	PartProgress
	// PartAlive says that bytes came that hold nothing of the answer: headers, a comment, a ping, the frame that opens
	// a message. Until the first event they end a silence. Timeouts keeps it to itself.
	PartAlive
	// PartWaiting says that the call waits, and for what: Waiting. The next part that is none of PartWaiting, PartUsage
	// and PartRestart ends the wait.
	PartWaiting
	// PartPaused says that the provider has paused its answer, and is asked to go on with it: what came stays, and the
	// call waits for the next event as it did for the first. Timeouts keeps it to itself.
	PartPaused
	// PartUsage says what the provider has counted so far: Usage, which replaces what an earlier one said. A call that
	// is cut is charged by the last one. PartFinish says the same for a call that ends well.
	PartUsage
)

// Part is one event of a stream. For every text and thinking block the deltas come first and then the PartBlock with
// the whole block; tool calls come as PartBlock only, in the order in which the model asked.
type Part struct {
	Type  PartType
	Text  string
	Block Block
	Usage Usage
	Stop  Stop
	// Restart is set in a PartRestart.
	Restart *Restart
	// Waiting is set in a PartWaiting.
	Waiting *Waiting
}

// WaitReason is what a call waits for.
type WaitReason string

// Reasons to wait.
const (
	WaitFirstToken WaitReason = "FIRST_TOKEN" // the provider has the request and has sent nothing of the answer
	WaitRateLimit  WaitReason = "RATE_LIMIT"  // the provider asked for a pause
	WaitRetry      WaitReason = "RETRY"       // the call failed and is made again
)

// Waiting tells what a call waits for.
type Waiting struct {
	Reason WaitReason
	// Until is when the wait ends. For WaitFirstToken it is when the call fails unless anything comes before.
	Until time.Time
	// Err is the failure that made the call wait; nil for WaitFirstToken.
	Err *Error
}

// Restart tells why a call is made again.
type Restart struct {
	Attempt int           // the attempt that will be made, 2 for the first retry
	Delay   time.Duration // how long it waits before
	Err     *Error        // what ended the attempt before
	// Without names what the request is sent without this time, because the provider refused it; "" when it is the
	// same.
	Without string
}

// Model is one language model.
type Model interface {
	// Ref names the model.
	Ref() Ref
	// API is the protocol that calls of the model speak.
	API() API
	// Window is the context window in tokens, 0 when unknown.
	Window() int64
	// MaxOutput is how many tokens an answer has at most, 0 when unknown.
	MaxOutput() int64
	// Stream makes one call. It yields parts until PartFinish, or one error as the last pair. Breaking out of the loop
	// or ending ctx ends the call. It does not retry: see Retrying.
	Stream(ctx context.Context, req Request) iter.Seq2[Part, error]
}

// Weight is about how many bytes the message's content takes.
func (m Message) Weight() int {
	n := 0
	for _, b := range m.Content {
		n += len(b.Text) + len(b.Args) + len(b.Details)
		if b.Image != nil {
			n += len(b.Image.Data)
		}
	}
	return n
}

// Text is the message's text blocks, joined by newlines. Those into which a provider has split one text, to cite a
// source for each or to sign them, are joined as they are.
func (m Message) Text() string {
	var text strings.Builder
	for i, b := range m.Content {
		if b.Type != TextBlock {
			continue
		}
		if text.Len() > 0 && !(i > 0 && m.Content[i-1].Type == TextBlock && (b.split() || m.Content[i-1].split())) {
			text.WriteByte('\n')
		}
		text.WriteString(b.Text)
	}
	return text.String()
}

// split reports whether the provider has split a text where the block begins or ends: Anthropic, to cite sources for
// it, or Gemini, which signs pieces of an answer.
func (b Block) split() bool {
	return bytes.HasPrefix(b.Opaque, []byte(`{"citations":`)) || bytes.HasPrefix(b.Opaque, []byte(`{"signature":`))
}
