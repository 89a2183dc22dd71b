package auth

import (
	"errors"
	"slices"
	"testing"

	"github.com/pawl-dev/pawl/services/control/session"
)

// What is forbidden to a role is forbidden to those before it, and each method has one verb.
func TestTable(t *testing.T) {
	seen := map[string]Verb{}
	for _, r := range Rules() {
		for _, m := range r.Methods {
			if v, twice := seen[m]; twice {
				t.Errorf("%s is %s and %s", m, v, r.Verb)
			}
			seen[m] = r.Verb
			if got, ok := RuleOf("/" + m); !ok || got.Verb != r.Verb {
				t.Errorf("%s is %+v", m, got)
			}
		}
		if r.Open() {
			continue
		}
		may := false
		for _, role := range Roles {
			now := Authorize(Principal{Kind: Client, Role: role}, r.Verb, Resource{}) == nil
			if may && !now || now != (r.Least != "" && slices.Index(Roles, role) >= slices.Index(Roles, r.Least)) {
				t.Errorf("%s, %s: %v", r.Verb, role, now)
			}
			may = now
		}
		for _, kind := range []Kind{Operator, Executor, Peer, "other"} {
			err := Authorize(Principal{Kind: kind, Role: Admin}, r.Verb, Resource{})
			if (err == nil) != slices.Contains(r.Kinds, kind) || err != nil && !errors.Is(err, ErrForbidden) {
				t.Errorf("%s, %s: %v", kind, r.Verb, err)
			}
		}
		for _, nobody := range []Principal{{}, {Role: Admin}} {
			if err := Authorize(nobody, r.Verb, Resource{}); !errors.Is(err, ErrUnauthenticated) {
				t.Errorf("nobody, %s: %v", r.Verb, err)
			}
		}
		for _, role := range []Role{"", "root"} {
			err := Authorize(Principal{Kind: Client, Role: role}, r.Verb, Resource{})
			if !errors.Is(err, ErrForbidden) {
				t.Errorf("role %q, %s: %v", role, r.Verb, err)
			}
		}
	}
	if err := Authorize(Principal{Kind: Operator}, "undreamt of", Resource{}); !errors.Is(err, ErrForbidden) {
		t.Errorf("unknown verb: %v", err)
	}
	if err := Enter(Principal{Kind: Operator}, "/pawl.v1.NoService/Nothing"); !errors.Is(err, ErrForbidden) {
		t.Errorf("unknown method: %v", err)
	}
}

func TestForeignIsMissing(t *testing.T) {
	gone := ErrTokenNotFound
	limited := Principal{Kind: Client, Tenant: "default", Role: User, Limits: Limits{Agents: []string{"a"}}}
	user := Principal{Kind: Client, Role: User}
	narrow := Principal{Kind: Client, Role: User, Limits: Limits{InstancePrefix: "team-"}}
	runner := Principal{Kind: Client, Role: User, Limits: Limits{Agents: []string{"a"}, Workflows: []string{"w"}}}
	for name, c := range map[string]struct {
		p    Principal
		v    Verb
		r    Resource
		want error
	}{
		"own agent":                {limited, Prompt, Resource{Agent: "a", Missing: gone}, nil},
		"other agent":              {limited, Prompt, Resource{Agent: "b", Missing: gone}, gone},
		"all agents":               {user, Prompt, Resource{Agent: "b", Missing: gone}, nil},
		"workflow":                 {user, StartRuns, Resource{Workflow: "w", Missing: gone}, nil},
		"workflow beside agents":   {limited, StartRuns, Resource{Workflow: "w", Missing: gone}, gone},
		"workflow beside a prefix": {narrow, StartRuns, Resource{Workflow: "w", Missing: gone}, gone},
		"own workflow":             {runner, StartRuns, Resource{Workflow: "w", Missing: gone}, nil},
		"other workflow":           {runner, StartRuns, Resource{Workflow: "v", Missing: gone}, gone},
		"own instance":             {narrow, Prompt, Resource{Instance: "team-1"}, nil},
		"other instance":           {narrow, Prompt, Resource{Instance: "xteam-"}, session.ErrNoInstance},
		"instance that is foreign": {narrow, ReadSessions, Resource{Agent: "a", Instance: "b", Missing: gone}, gone},
		"other tenant":             {limited, ReadSessions, Resource{Tenant: "x", Agent: "a", Missing: gone}, gone},
		"operator, tenant": {
			Principal{Kind: Operator, Tenant: "default"},
			ReadSessions,
			Resource{Tenant: "x", Missing: gone},
			gone,
		},
		"own executor":   {Principal{Kind: Executor, Executor: "e"}, Connect, Resource{Executor: "e"}, nil},
		"other executor": {Principal{Kind: Executor, Executor: "e"}, Connect, Resource{Executor: "f"}, ErrForbidden},
		"never": {
			Principal{Kind: Executor, Executor: "e"},
			Prompt,
			Resource{Agent: "a", Missing: gone},
			ErrForbidden,
		},
	} {
		if err := Authorize(c.p, c.v, c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
