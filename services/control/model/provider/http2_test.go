package provider_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/provider"
)

// A server that ends a request before it answers is not reached, whichever version of HTTP it speaks.
func TestAServerThatEndsARequest(t *testing.T) {
	for _, second := range []bool{false, true} {
		proto := 0
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			proto = r.ProtoMajor
			panic(http.ErrAbortHandler)
		}))
		srv.EnableHTTP2 = second
		srv.StartTLS()
		m, err := provider.APIs(srv.Client())[model.APIChat](model.Endpoint{
			Name: "test", BaseURL: srv.URL, Settings: model.Settings{API: model.APIChat},
		}, "m")
		if err != nil {
			t.Fatal(err)
		}
		_, err, _ = modeltest.Read(m.Stream(t.Context(), model.Request{Messages: []model.Message{user("hi")}}))
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindNetwork || !e.Retryable || (proto == 2) != second {
			t.Errorf("HTTP/%d: %#v", proto, err)
		}
		srv.Close()
	}
}
