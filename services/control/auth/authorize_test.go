package auth

import (
	"errors"
	"testing"
)

func TestTable(t *testing.T) {
	verbs := []Verb{
		ReadAgents, Prompt, ReadSessions, UseFiles, ReadExecutors, UseExecutors, Connect, ManageTokens, Inspect, Forward,
		ReloadAgents, MoveSessions,
	}
	want := map[Kind][]bool{
		Operator: {true, true, true, true, true, true, true, true, true, false, true, true},
		Client:   {true, true, true, true, false, false, false, false, false, false, false, false},
		Executor: {false, false, false, false, false, false, true, false, false, false, false, false},
		Peer:     {false, false, false, false, false, false, false, false, false, true, false, false},
		"other":  {false, false, false, false, false, false, false, false, false, false, false, false},
	}
	if len(verbs) != len(allowed) {
		t.Errorf("%d verbs are tested, %d exist", len(verbs), len(allowed))
	}
	for kind, row := range want {
		for i, v := range verbs {
			err := Authorize(Principal{Kind: kind, Tenant: "default"}, v, Resource{})
			if (err == nil) != row[i] || err != nil && !errors.Is(err, ErrForbidden) {
				t.Errorf("%s, %s: %v", kind, v, err)
			}
		}
	}
	for _, v := range verbs {
		if err := Authorize(Principal{}, v, Resource{}); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("nobody, %s: %v", v, err)
		}
	}
	if err := Authorize(Principal{Kind: Operator}, "undreamt of", Resource{}); !errors.Is(err, ErrForbidden) {
		t.Errorf("unknown verb: %v", err)
	}
}

func TestForeignIsMissing(t *testing.T) {
	gone := ErrTokenNotFound
	limited := Principal{Kind: Client, Tenant: "default", Agents: []string{"a"}}
	for name, c := range map[string]struct {
		p    Principal
		v    Verb
		r    Resource
		want error
	}{
		"own agent":    {limited, Prompt, Resource{Agent: "a", Missing: gone}, nil},
		"other agent":  {limited, Prompt, Resource{Agent: "b", Missing: gone}, gone},
		"all agents":   {Principal{Kind: Client}, Prompt, Resource{Agent: "b", Missing: gone}, nil},
		"other tenant": {limited, ReadSessions, Resource{Tenant: "x", Agent: "a", Missing: gone}, gone},
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
