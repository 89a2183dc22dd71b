package control_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// Every call that may change something, and every refused one, is on record once it is answered: with who, from where,
// what and whether it was allowed. What only reads is not.
func TestEverythingThatMattersIsOnRecord(t *testing.T) {
	w := startWalk(t)
	audit := pawlv1.NewAuditServiceClient(w.conn(t, w.callers["operator"].secret))
	for full, m := range w.methods(t) {
		rule, _ := auth.RuleOf(full)
		if rule.Open() || rule.Verb == auth.ReadAudit {
			continue
		}
		for _, name := range []string{"viewer", "admin", "operator", "another agent", "nobody"} {
			c := w.callers[name]
			secret, made := c.secret, auth.Token{}
			if c.who.Kind != "" {
				like := auth.Token{Kind: c.who.Kind, Role: c.who.Role, Name: name}
				if name == "another agent" {
					like.Limits.Agents = []string{"other"}
				}
				secret, made = w.mint(t, like, 0)
			}
			c.secret = secret
			_, err := w.call(t, c, m, w.there(t))
			page, failed := audit.ListAuditEvents(t.Context(), &pawlv1.ListAuditEventsRequest{TokenId: made.ID})
			if failed != nil {
				t.Fatal(failed)
			}
			events := page.GetEvents()
			switch what := full + " by " + name; {
			case made.ID == "":
			case c.foreign && !rule.Changes && rule.Verb != auth.ReadSessions: // what it names is not there
			case c.may(rule) && !rule.Changes && !(c.foreign && err != nil):
				if len(events) != 0 {
					t.Errorf("%s is on record, and only reads: %v", what, events)
				}
			case len(events) != 1:
				t.Errorf("%s: %d events are on record, want one (%v)", what, len(events), err)
			default:
				e := events[0]
				if e.GetMethod() != full || e.GetVerb() != string(rule.Verb) || e.GetName() != name ||
					e.GetSource() != "127.0.0.1" || e.GetTenant() != "default" || e.GetKind() != string(c.who.Kind) ||
					!c.may(rule) && (e.GetAllowed() || e.GetReason() != "FORBIDDEN") ||
					c.may(rule) && !c.foreign && rule.Verb != auth.ManageTokens && !e.GetAllowed() {
					t.Errorf("%s: %v", what, e)
				}
			}
		}
	}
}

// submissionID is what a prompt has made, as it is on record.
var submissionID = regexp.MustCompile(`submission_id=[0-9a-f-]{36}`)

// What comes over HTTP is on record as what comes over gRPC, with the address that it came from.
func TestRoutesAreOnRecord(t *testing.T) {
	w := startWalk(t)
	limits := auth.Limits{Agents: []string{"shell"}, ForOthers: true}
	secret, made := w.mint(t, auth.Token{Kind: auth.Client, Name: "ci", Limits: limits}, 0)
	c := caller{secret: secret}
	for _, path := range []string{
		"/agents/shell/i", "/v1/agents/shell/instances/i:dispatch", "/agents/other/i", "/v1/executors",
	} {
		method := http.MethodPost
		if path == "/v1/executors" {
			method = http.MethodGet
		}
		r := otherRequest(t, method, path)
		r.Header.Set("Pawl-On-Behalf-Of", "ada")
		w.send(t, c, r)
	}
	r := otherRequest(t, http.MethodGet, "/v1/audit-events:export")
	r.URL.RawQuery = "token_id=" + made.ID
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(w.http, "http://")
	r.Header.Set("Authorization", "Bearer "+w.callers["admin"].secret)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it is read to its end
	var got []string
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		var line struct{ Event map[string]any }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		e := line.Event
		if e["source"] != "127.0.0.1" || e["name"] != "ci" {
			t.Errorf("%v", e)
		}
		text := func(name string) string { s, _ := e[name].(string); return s }
		allowed := "refused"
		if e["allowed"] == true {
			allowed = "allowed"
		}
		resource := submissionID.ReplaceAllString(text("resource"), "submission_id=ID")
		got = append(got, strings.Join([]string{text("method"), resource, text("onBehalfOf"), allowed}, ", "))
	}
	slices.Reverse(got)
	want := []string{
		"POST /agents/{agent}/{instance}, submission_id=ID session=shell/i, ada, allowed",
		"pawl.v1.SubmissionService/Submit, submission_id=ID session=shell/i, ada, allowed",
		"POST /agents/{agent}/{instance}, session=other/i, , refused",
		"pawl.v1.ExecutorService/ListExecutors, , , refused",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// Another tenant's admin sees none of it, whatever it asks for.
	theirs := pawlv1.NewAuditServiceClient(w.conn(t, w.callers["another tenant"].secret))
	for _, req := range []*pawlv1.ListAuditEventsRequest{{}, {Tenant: "default"}, {TokenId: made.ID}} {
		page, err := theirs.ListAuditEvents(t.Context(), req)
		if err != nil || len(page.GetEvents()) > 0 {
			t.Errorf("%v, %v", page, err)
		}
	}
	for verb, want := range map[string]string{
		"CreateToken":                      `"CreateToken" is no verb; its verb is "make and revoke tokens"`,
		"pawl.v1.TokenService/CreateToken": `its verb is "make and revoke tokens"`,
		"nothing":                          `"nothing" is no verb; the verbs are "read agents", "reload agents", `,
	} {
		_, err := theirs.ListAuditEvents(t.Context(), &pawlv1.ListAuditEventsRequest{Verb: verb})
		if rpc.Reason(err) != "UNKNOWN_VERB" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	for _, r := range auth.Rules() {
		_, err := theirs.ListAuditEvents(t.Context(), &pawlv1.ListAuditEventsRequest{Verb: string(r.Verb)})
		if err != nil && !r.Open() {
			t.Errorf("%s: %v", r.Verb, err)
		}
	}
	bad := &pawlv1.ListAuditEventsRequest{PageToken: "x" + ident.New()}
	if _, err := theirs.ListAuditEvents(t.Context(), bad); err == nil {
		t.Error("a page token that is none")
	}
}
