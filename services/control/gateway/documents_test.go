package gateway_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The two documents describe what is served, under the names that clients of the original know.
func TestDocumentsOfFlue(t *testing.T) {
	f := withFlows(t, nil)
	for mount, want := range map[string][]string{
		"": {
			"invokeAgent POST /agents/{name}/{id}", "getRun GET /runs/{runId}",
			"listRunEvents GET /runs/{runId}/events",
			"streamRunEvents GET /runs/{runId}/stream", "invokeWorkflow POST /workflows/{name}",
		},
		"/admin": {"adminListAgents GET /agents", "adminListRuns GET /runs", "adminGetRun GET /runs/{runId}"},
	} {
		var document struct {
			OpenAPI    string
			Info       struct{ Title, Version string }
			Servers    *[]any
			Components *struct{}
			Paths      map[string]map[string]struct {
				OperationID string
				Parameters  []struct{ Name string }
				Responses   map[string]any
			}
		}
		status, head, body := raw(t, f.Server, "GET "+mount+"/openapi.json HTTP/1.1\n"+get)
		decode(t, body, &document)
		if status != 200 || head.Get("Content-Type") != "application/json" || document.OpenAPI != "3.1.0" ||
			document.Info.Version != "0.10.2" || document.Servers == nil || document.Components == nil {
			t.Errorf("%q: %d %v %.300s", mount, status, head, body)
		}
		var got []string
		for path, methods := range document.Paths {
			for method, operation := range methods {
				method = strings.ToUpper(method)
				got = append(got, fmt.Sprint(operation.OperationID, " ", method, " ", path))
				at := mount + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "x")
				_, _, body := raw(t, f.Server, method+" "+at+" HTTP/1.1\n"+get)
				if strings.Contains(body, "route_not_found") || strings.Contains(body, "method_not_allowed") {
					t.Errorf("%s %s is not served: %s", method, at, body)
				}
				if mount == "" && operation.Responses["501"] == nil || operation.Responses["404"] == nil {
					t.Errorf("%s: %v", path, operation.Responses)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %s", mount, got)
		}
	}
}
