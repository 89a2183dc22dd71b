package provider_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// Servers, and those that stand between, tell of errors in a success and in any shape. Each is told in its words, and
// is no answer that was cut.
func TestErrorsInASuccess(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		for body, want := range map[string]struct {
			kind model.Kind
			says string
		}{
			`{"error":{"message":"no credits left","code":402}}`:     {model.KindQuota, "no credits left"},
			`{"error":"the backend is away"}`:                        {model.KindServer, "the backend is away"},
			`{"detail":"model not loaded"}`:                          {model.KindServer, "model not loaded"},
			`{"message":"Too many requests","code":429}`:             {model.KindRateLimited, "Too many requests"},
			`{"object":"error","message":"no","code":503}`:           {model.KindOverloaded, "no"},
			`[{"error":{"message":"slow down","code":"429"}}]`:       {model.KindRateLimited, "slow down"},
			`{"errors":[{"message":"no worker"}]}`:                   {model.KindServer, "no worker"},
			`{"error_message":"no such deployment","code":404}`:      {model.KindNotFound, "no such deployment"},
			`{"type":"error","error":{"type":"overloaded_error"}}`:   {model.KindOverloaded, "overloaded_error"},
			`{"error":{"code":503,"status":"UNAVAILABLE"},"id":"x"}`: {model.KindOverloaded, "UNAVAILABLE"},
		} {
			s := modeltest.NewServer(t, modeltest.Answer(http.StatusOK, body))
			_, err := ask(t, open(t, w, s), model.Request{})
			e, ok := model.AsError(err)
			if !ok || e.Kind != want.kind || !strings.Contains(e.Text, want.says) {
				t.Errorf("%s: %#v, want %s", body, err, want.kind)
			}
		}
	})
}
