package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Head is what a request says beside its conversation.
type Head struct {
	Request model.Request // System, Thinking, MaxOutput, CacheKey, MustCall
	Tools   []byte        // as EncodeTools made them, nil for none
	// Without names parameters that are left out. A parameter within another one is named as in "reasoning.summary".
	Without []string
	// NoThoughts says that the conversation is sent without thoughts, which Anthropic refuses of a model that thinks.
	NoThoughts bool
}

// headRoom is about how many bytes a head has beside its text and its tools.
const headRoom = 512

// Marks is the name of Anthropic's marks of its cache in Head.Without.
const Marks = "cache_control"

// Append appends the beginning of the body, up to the first element of the conversation. All that differs between the
// requests of a session stands behind it.
func (h Head) Append(dst []byte, t Target) []byte {
	dst = slices.Grow(dst, len(h.Tools)+len(h.Request.System)+headRoom)
	p := params{without: h.Without, extra: t.Extra, buf: append(dst, '{')}
	if t.API != model.APIGemini && t.API != model.APIConverse { // whose addresses say both
		p.add("model", rawjson.AppendString(nil, t.Ref.ID))
		p.add("stream", []byte("true"))
	}
	list := `"messages":[`
	switch t.API {
	case model.APIConverse:
		h.converse(&p, t)
	case model.APIGemini:
		h.gemini(&p, t)
		list = `"contents":[`
	case model.APIAnthropic:
		h.anthropic(&p, t)
	case model.APIResponses:
		h.responses(&p, t)
		list = `"input":[`
	default:
		h.chat(&p, t)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Extra)) {
		if name != "stream" && !slices.Contains(append(conversations, h.Without...), name) {
			p.put(name, t.Extra[name])
		}
	}
	if len(h.Tools) > 0 {
		p.add(toolsName(t.API), h.Tools)
	}
	dst = p.buf
	if t.API == model.APIChat && !blank(h.Request.System) {
		dst = append(append(dst, list...), `{"role":"system","content":`...)
		return append(rawjson.AppendString(dst, h.Request.System), `},`...)
	}
	return append(dst, list...)
}

// toolsName is the parameter that holds the tools.
func toolsName(api model.API) string {
	if api == model.APIConverse {
		return "toolConfig"
	}
	return "tools"
}

// conversations are the parameters that hold one, by API.
var conversations = []string{"messages", "input", "contents"}

// Holds reports whether a head has a parameter, which is named as in Head.Without.
func Holds(head []byte, name string) bool {
	outer, inner, nested := strings.Cut(name, ".")
	v := member(head, outer)
	return v != nil && (!nested || member(v, inner) != nil)
}

// params are the parameters of a body, in order.
type params struct {
	buf     []byte
	without []string
	extra   map[string][]byte
}

// add adds a parameter, unless it is to be left out or the configuration has its own.
func (p *params) add(name string, value []byte) {
	if _, own := p.extra[name]; own && name != "stream" || slices.Contains(p.without, name) {
		return
	}
	p.put(name, value)
}

func (p *params) put(name string, value []byte) {
	p.buf = append(rawjson.AppendString(p.buf, name), ':')
	p.buf = append(append(p.buf, value...), ',')
}

func (p *params) number(name string, n int64) { p.add(name, strconv.AppendInt(nil, n, 10)) }

func (p *params) text(name, value string) { p.add(name, rawjson.AppendString(nil, value)) }

// has reports whether a parameter is not to be left out.
func (p *params) has(name string) bool { return !slices.Contains(p.without, name) }

const (
	defaultMaxOutput = 32_000 // for Anthropic, which wants to be told
	minBudget        = 1024   // of thinking tokens that Anthropic accepts
	minAnswer        = 1024   // that a budget leaves for the answer
)

func (h Head) anthropic(p *params, t Target) {
	most := int64(h.Request.MaxOutput)
	if most <= 0 {
		if most = t.Info.MaxOutput; most <= 0 {
			most = defaultMaxOutput
		}
	}
	p.number("max_tokens", most)
	if !h.NoThoughts {
		budget, effort := anthropicThinking(t, h.Request.Thinking, most)
		if effort != "" {
			p.add("output_config", append(rawjson.AppendString([]byte(`{"effort":`), effort), '}'))
		}
		if budget > 0 {
			p.add("thinking", append(strconv.AppendInt([]byte(`{"type":"enabled","budget_tokens":`), budget, 10), '}'))
		}
	}
	if blank(h.Request.System) {
		return
	}
	system := rawjson.AppendString([]byte(`[{"type":"text","text":`), h.Request.System)
	if p.has(Marks) {
		system = append(system, anthropicMark...)
	}
	p.add("system", append(system, `}]`...))
}

func (h Head) responses(p *params, t Target) {
	if h.Request.MaxOutput > 0 {
		p.number("max_output_tokens", int64(h.Request.MaxOutput))
	}
	p.add("store", []byte("false"))
	if isReasoner(t) && !h.NoThoughts {
		p.add("include", []byte(`["reasoning.encrypted_content"]`))
		h.reasoning(p, t)
	}
	if len(h.Tools) > 0 {
		p.add("parallel_tool_calls", []byte("true"))
		if h.Request.MustCall {
			p.text("tool_choice", "required")
		}
	}
	if h.Request.CacheKey != "" {
		p.text("prompt_cache_key", shortName(h.Request.CacheKey, maxName))
	}
	if !blank(h.Request.System) {
		p.text("instructions", h.Request.System)
	}
}

// reasoning says how much to think. Only who is told gives a summary.
func (h Head) reasoning(p *params, t Target) {
	effort := openAIEffort(t, h.Request.Thinking)
	if effort == "" {
		return
	}
	v := rawjson.AppendString([]byte(`{"effort":`), effort)
	if effort != "none" && p.has("reasoning.summary") {
		v = append(v, `,"summary":"auto"`...)
	}
	p.add("reasoning", append(v, '}'))
}

func (h Head) chat(p *params, t Target) {
	if h.Request.MaxOutput > 0 {
		// OpenAI's newer models know the first name only, most other servers the second one only.
		first, second := "max_tokens", "max_completion_tokens"
		if t.Own || isReasoner(t) {
			first, second = second, first
		}
		if p.has(first) {
			p.number(first, int64(h.Request.MaxOutput))
		} else {
			p.number(second, int64(h.Request.MaxOutput))
		}
	}
	p.add("stream_options", []byte(`{"include_usage":true}`))
	if effort := openAIEffort(t, h.Request.Thinking); effort != "" {
		p.text("reasoning_effort", effort)
	}
	if h.Request.CacheKey != "" && t.Own { // other servers may not know the parameter
		p.text("prompt_cache_key", shortName(h.Request.CacheKey, maxName))
	}
	if h.Request.MustCall && len(h.Tools) > 0 && t.Own {
		p.text("tool_choice", "required")
	}
}

func (h Head) gemini(p *params, t Target) {
	if !blank(h.Request.System) {
		system := rawjson.AppendString([]byte(`{"parts":[{"text":`), h.Request.System)
		p.add("systemInstruction", append(system, `}]}`...))
	}
	// Gemini searches beside other tools from version 3 on, if it is told to show that it does.
	if wantsSignatures(t) && bytes.Contains(h.Tools, []byte(`{"functionDeclarations":`)) &&
		bytes.HasSuffix(h.Tools, []byte(`{"googleSearch":{}}]`)) {
		p.add("toolConfig", []byte(`{"includeServerSideToolInvocations":true}`))
	}
	config := []byte{'{'}
	if h.Request.MaxOutput > 0 {
		config = strconv.AppendInt(append(config, `"maxOutputTokens":`...), int64(h.Request.MaxOutput), 10)
	}
	thinking := geminiThinking(t, h.Request.Thinking, int64(h.Request.MaxOutput))
	if thinking != "" && p.has("generationConfig.thinkingConfig") {
		if len(config) > 1 {
			config = append(config, ',')
		}
		config = append(append(config, `"thinkingConfig":`...), thinking...)
	}
	if len(config) > 1 {
		p.add("generationConfig", append(config, '}'))
	}
}

func (h Head) converse(p *params, t Target) {
	most := int64(h.Request.MaxOutput)
	if most <= 0 && isClaude(t) {
		most = t.Info.MaxOutput
	}
	if most > 0 {
		p.add("inferenceConfig", append(strconv.AppendInt([]byte(`{"maxTokens":`), most, 10), '}'))
	}
	if !h.NoThoughts && isClaude(t) {
		if most <= 0 {
			most = defaultMaxOutput
		}
		switch budget, effort := anthropicThinking(t, h.Request.Thinking, most); {
		case effort != "":
			p.add("additionalModelRequestFields",
				append(rawjson.AppendString([]byte(`{"output_config":{"effort":`), effort), `}}`...))
		case budget > 0:
			v := strconv.AppendInt([]byte(`{"thinking":{"type":"enabled","budget_tokens":`), budget, 10)
			p.add("additionalModelRequestFields", append(v, `}}`...))
		}
	}
	if blank(h.Request.System) {
		return
	}
	system := append(rawjson.AppendString([]byte(`[{"text":`), h.Request.System), '}')
	if mark, _ := marksOf(t); mark != nil && p.has(Marks) {
		system = append(system, mark...)
	}
	p.add("system", append(system, ']'))
}

// EncodeTools are tools in the form of an API, nil for no tools. An error names the tool whose schema cannot be sent.
func EncodeTools(t Target, offered []model.Tool, marked bool) ([]byte, error) {
	own := slices.DeleteFunc(slices.Clone(offered), func(tool model.Tool) bool { return tool.Hosted })
	var hosted []byte
	if len(own) < len(offered) {
		hosted = hostedTool(t.API)
	}
	if len(own) == 0 && hosted == nil {
		return nil, nil
	}
	dst, err := encodeFunctions(t, own, marked && hosted == nil)
	if err != nil {
		return nil, err
	}
	mark, _ := marksOf(t)
	switch t.API {
	case model.APIGemini:
		if len(own) > 0 {
			dst = slices.Concat([]byte(`{"functionDeclarations":[`), dst, []byte(`]}`))
		}
	case model.APIConverse:
		if !marked || !isClaude(t) { // Amazon's own models refuse a mark among tools
			mark = nil
		}
		return slices.Concat([]byte(`{"tools":[`), dst, mark, []byte(`]}`)), nil
	case model.APIAnthropic:
		if hosted != nil && marked {
			hosted = append(hosted[:len(hosted)-1], append(slices.Clone(mark), '}')...)
		}
	}
	if hosted != nil && len(own) > 0 {
		dst = append(dst, ',')
	}
	return slices.Concat([]byte{'['}, dst, hosted, []byte{']'}), nil
}

// encodeFunctions are the elements of a list of tools.
func encodeFunctions(t Target, offered []model.Tool, marked bool) (dst []byte, err error) {
	for i, tool := range offered {
		var compact bytes.Buffer
		if err := json.Compact(&compact, tool.Schema); err != nil || !isObject(compact.Bytes()) {
			return nil, fmt.Errorf("the schema of tool %q is no JSON object", tool.Name)
		}
		schema := compact.Bytes()
		if i > 0 {
			dst = append(dst, ',')
		}
		switch t.API {
		case model.APIGemini:
			clean, err := geminiSchema(schema)
			if err != nil {
				return nil, fmt.Errorf("the schema of tool %q: %w", tool.Name, err)
			}
			dst = appendTool(append(dst, '{'), tool, "parameters", clean)
		case model.APIConverse:
			dst = append(dst, `{"toolSpec":{`...)
			dst = append(appendTool(dst, tool, "inputSchema", slices.Concat([]byte(`{"json":`), schema,
				[]byte{'}'})), '}')
		case model.APIAnthropic:
			dst = appendTool(append(dst, '{'), tool, "input_schema", schema)
			if marked && i == len(offered)-1 { // agents share their tools, if not their instructions
				dst = append(dst, anthropicMark...)
			}
		case model.APIResponses:
			dst = append(dst, `{"type":"function","strict":`...)
			dst = append(strconv.AppendBool(dst, tool.Strict), ',')
			dst = appendTool(dst, tool, "parameters", withProperties(schema))
		default:
			dst = append(dst, `{"type":"function","function":{`...)
			dst = append(appendTool(dst, tool, "parameters", withProperties(schema)), '}')
		}
		dst = append(dst, '}')
	}
	return dst, nil
}

func appendTool(dst []byte, t model.Tool, schema string, v []byte) []byte {
	dst = rawjson.AppendString(append(dst, `"name":`...), t.Name)
	if t.Description != "" {
		dst = rawjson.AppendString(append(dst, `,"description":`...), t.Description)
	}
	if v == nil {
		return dst
	}
	return append(append(append(append(dst, `,"`...), schema...), `":`...), v...)
}

// withProperties is a schema of an object with the properties that OpenAI wants even where there are none.
func withProperties(schema []byte) []byte {
	if member(schema, "properties") != nil || str(member(schema, "type")) != "object" {
		return schema
	}
	return append([]byte(`{"properties":{},`), schema[1:]...)
}
