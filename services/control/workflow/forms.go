package workflow

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/schedule"
	"github.com/pawl-dev/pawl/services/control/skill"
	"github.com/pawl-dev/pawl/services/control/tool/result"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// wordPattern is that of words for programs.
const wordPattern = `^[a-z][a-z0-9_]*$`

var (
	wordForm    = lazily(wordPattern)
	nameForm    = lazily(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	signalForm  = lazily(`^[A-Za-z0-9_.-]{1,128}$`)
	deciderForm = lazily(`^(operator|[a-z][a-z0-9_]*:[A-Za-z0-9_.-]{1,64})$`)
	toolForm    = lazily(`^(executor/)?[A-Za-z0-9_-]{1,128}$`)
	modeForm    = lazily(`^0?[0-7]{3}$`)
)

func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// ValidName reports whether s can be the name of a workflow.
func ValidName(s string) bool { return nameForm().MatchString(s) }

// ValidReason reports whether s can be the reason of a failure: a word for programs.
func ValidReason(s string) bool { return isWord(s) }

func isWord(s string) bool    { return wordForm().MatchString(s) && len(s) <= 64 }
func isSignal(s string) bool  { return signalForm().MatchString(s) }
func isDecider(s string) bool { return deciderForm().MatchString(s) }

func isTenant(s string) bool { return ident.CheckTenant(s) == nil }

func isVariable(s string) bool { return document.Variable(s) }

func listed(names []string) string { return strings.Join(names, ", ") }

// line is a command line. An expression in it would be run as code.
func line(to *string) Form {
	return Form{
		Name:   noExpressions,
		Schema: map[string]any{"type": "string", "not": map[string]any{"pattern": `\$\{\{`}},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			if i := strings.Index(n.Value, expr.Open); i >= 0 && n.Kind == yaml.ScalarNode {
				r.inside(n, i, []expr.Problem{{Text: "there are no expressions in a command: what they bring in " +
					"would be run as code. Pass it by env, and write \"$NAME\""}})
				return
			}
			*to = r.plain(n, maxCommand)
		},
	}
}

// agentName is one of the project's agents, for all tenants that the workflow is for.
func agentName(to *string) Form {
	return Form{Name: "name of an agent", Schema: textSchema(), read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		s := r.plain(n, maxName)
		if *to = s; s == "" || r.surrounding.Agent == nil {
			return
		}
		tenants, ok := r.surrounding.Agent(s)
		if !ok {
			r.at(n, "there is no agent %s%s", short(s), unlikeOf(s, r.surrounding.Agents))
			return
		}
		r.agents = append(r.agents, mention{n, s, tenants})
	}}
}

// mention is a name in the file of something that only some tenants have.
type mention struct {
	node    *yaml.Node
	name    string
	tenants []string
}

// visible checks that whoever has the workflow has what it names.
func (r *reader) visible(*yaml.Node) {
	for _, m := range r.agents {
		if len(m.tenants) == 0 {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(r.def.Tenants), func(t string) bool {
			return slices.Contains(m.tenants, t)
		})
		switch {
		case len(r.def.Tenants) == 0:
			r.at(m.node, "agent %s is for %s only, and the workflow is for all tenants: give it tenants as well",
				m.name, listed(m.tenants))
		case len(others) > 0:
			r.at(m.node, "agent %s is for %s only, and the workflow is for %s too", m.name, listed(m.tenants),
				listed(others))
		}
	}
}

// unlikeOf is what an error about a name ends with: the nearest of the known, or the first of them.
func unlikeOf(name string, known []string) string {
	if near := document.DidYouMean(name, known); near != "" || len(known) == 0 {
		return near
	}
	return "; there are " + listed(known[:min(len(known), mostKnown)])
}

// known reports whether there is a tool.
func (r *reader) known(tool string) bool {
	if r.surrounding.Tool == nil {
		return true
	}
	_, ok := r.surrounding.Tool(tool)
	return ok
}

func toolName(to *string) Form {
	return Form{Name: "name of a tool", Schema: textSchema(), read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		switch s := r.plain(n, maxName); {
		case s == "":
		case !toolForm().MatchString(s):
			r.at(n, "%q cannot be a tool's name: it has letters, digits, _ and -", short(s))
		case !r.known(s):
			r.at(n, "there is no tool %s%s", short(s), unlikeOf(s, r.surrounding.Tools))
		default:
			*to = s
		}
	}}
}

func skillName(to *string) Form {
	return name(to, "a skill's name: it has 1 to 64 of a-z, 0-9 and single hyphens between them", skill.ValidName)
}

func modelName(to **model.Ref) Form {
	return Form{Name: "provider/id", Schema: textSchema(), read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		s := r.plain(n, model.MaxRef)
		if s == "" {
			return
		}
		ref, err := model.ParseRef(s)
		if err != nil {
			r.at(n, "must be provider/id, such as anthropic/claude-sonnet-4-6")
			return
		}
		*to = &ref
	}}
}

func fileMode(to *string) Form {
	return Form{
		Name: "octal number in quotes", Schema: map[string]any{"type": "string", "pattern": `^0?[0-7]{3}$`},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			switch s := r.plain(n, maxName); {
			case s == "":
			case !modeForm().MatchString(s):
				r.at(n, `%q is no mode of a file: write three octal digits, such as "0755"`, short(s))
			default:
				*to = s
			}
		},
	}
}

// pause is what sleep takes.
func pause(to *Duration) Form {
	f := length(to)
	f.Name = "duration or timestamp"
	f.read = func(r *reader, n *yaml.Node, sc *expr.Scope) {
		if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, expr.Open) {
			to.Fixed = r.fixed(n)
			return
		}
		e := r.expression(n, sc)
		if r.must(n, e, "a duration or a timestamp", types.DurationType, types.TimestampType) {
			to.Expr = e
		}
	}
	return f
}

func version() Form {
	return Form{Name: "1", Schema: map[string]any{"const": 1}, read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		if n.Kind != yaml.ScalarNode || n.Value != "1" {
			r.at(n, "must be 1: this control plane knows no other version of the format")
		}
	}}
}

var surfaces = []agent.Surface{agent.HTTP, agent.WebSocket}

func exposes(to *[]agent.Surface) Form {
	choices := []string{}
	enum := []any{}
	for _, s := range surfaces {
		choices, enum = append(choices, string(s)), append(enum, string(s))
	}
	return Form{
		Name:   "list of " + listed(choices),
		Schema: map[string]any{"type": "array", "items": map[string]any{"enum": enum}, "uniqueItems": true},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			*to = []agent.Surface{}
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				return // nowhere
			}
			r.each(n, func(item *yaml.Node) {
				if s := agent.Surface(r.word(item, choices)); s != "" && !slices.Contains(*to, s) {
					*to = append(*to, s)
				}
			})
		},
	}
}

func concurrency(to **Concurrency) Form {
	options := func(c *Concurrency) []Option {
		return []Option{
			required(Option{Name: "key", Doc: "Runs with the same key count together.", Form: text(&c.Key)}),
			{Name: "limit", Doc: "How many run at a time; 1 if there is none.", Form: count(&c.Limit, 1, 10_000)},
			{
				Name: "policy", Doc: "What becomes of one more; queue if there is none.",
				Form: words(&c.Policy, Queue, Reject, CancelOldest),
			},
		}
	}
	f := mapping("concurrency", options(&Concurrency{}))
	f.read = func(r *reader, n *yaml.Node, sc *expr.Scope) {
		c := &Concurrency{Limit: 1, Policy: Queue}
		r.options(n, sc, "concurrency", options(c))
		*to = c
	}
	return f
}

// maxSchedules bounds the schedules of a workflow.
const maxSchedules = 100

func schedules(to *[]Schedule) Form {
	options := func(s *Schedule) []Option {
		return []Option{
			required(Option{
				Name: "cron", Doc: "Minute, hour, day of the month, month, day of the week.",
				Form: cronTimes(&s.Cron),
			}),
			{Name: "tz", Doc: "Time zone, such as Europe/Berlin; UTC if there is none.", Form: zone(&s.Zone)},
			{
				Name: "catchup",
				Doc:  "Which missed runs are made up for; last if there is none.",
				Form: words(&s.Catchup, schedule.CatchupNone, schedule.CatchupLast, schedule.CatchupAll),
			},
			{Name: "input", Doc: "Input of the runs.", Form: constant(&s.Input)},
		}
	}
	f := mappings(options(&Schedule{}))
	f.read = func(r *reader, n *yaml.Node, sc *expr.Scope) {
		if len(n.Content) > maxSchedules {
			r.at(n, "has at most %d schedules", maxSchedules)
			return
		}
		r.each(n, func(item *yaml.Node) {
			s := Schedule{Catchup: schedule.CatchupLast}
			r.options(item, sc, "a schedule", options(&s))
			*to = append(*to, s)
			r.scheduled(item, s)
		})
	}
	return f
}

// scheduled checks the input of a schedule's runs.
func (r *reader) scheduled(n *yaml.Node, s Schedule) {
	at := n
	if _, v := document.Find(n, "input"); v != nil {
		at = v
	}
	if r.def.Input == nil {
		return
	}
	given := s.Input
	if given == nil {
		given = json.RawMessage("{}")
	}
	if _, problems := r.def.Input.Fill(given); len(problems) > 0 {
		r.at(at, "the input of a scheduled run is not what the workflow takes: %s", strings.Join(problems, "; "))
	}
}

func cronTimes(to *string) Form {
	return Form{Name: "five fields of cron", Schema: textSchema(), read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		s := r.plain(n, maxName)
		if s == "" {
			return
		}
		if _, err := schedule.Parse(s, ""); err != nil {
			r.at(n, "%v", err)
			return
		}
		*to = s
	}}
}

func zone(to *string) Form {
	return Form{Name: "name of a time zone", Schema: textSchema(), read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		s := r.plain(n, maxName)
		if s == "" {
			return
		}
		if _, err := schedule.Zone(s); err != nil {
			r.at(n, "%v", err)
			return
		}
		*to = s
	}}
}

// constant is a value without expressions.
func constant(to *json.RawMessage) Form {
	return Form{Name: "value without `${{ }}`", Schema: map[string]any{}, read: func(
		r *reader, n *yaml.Node, _ *expr.Scope,
	) {
		if at := expressionIn(n); at != nil {
			r.inside(at, strings.Index(at.Value, expr.Open), []expr.Problem{{Text: "there are no expressions here"}})
			return
		}
		*to, _ = r.json(n)
	}}
}

func expressionIn(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, expr.Open) {
		return n
	}
	for _, c := range n.Content {
		if found := expressionIn(c); found != nil {
			return found
		}
	}
	return nil
}

// schema reads a JSON Schema.
func (r *reader) schema(n *yaml.Node) *Schema {
	if n.Kind != yaml.MappingNode {
		r.at(n, "must be a JSON Schema, got %s", document.Kind(n))
		return nil
	}
	raw, ok := r.json(n)
	if !ok {
		return nil
	}
	if len(raw) > result.MaxSchema {
		r.at(n, "a schema has at most %d bytes of JSON", result.MaxSchema)
		return nil
	}
	s, err := newSchema(raw)
	if err == nil {
		err = checkDefaults(s.plain, "")
	}
	if err != nil {
		r.at(n, "is no JSON Schema that can be used: %v", err)
		return nil
	}
	return s
}
