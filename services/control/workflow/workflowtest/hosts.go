package workflowtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// Exchange is a request that a run makes, and its answer.
type Exchange struct {
	Method string
	URL    string
	Body   json.RawMessage // nil is not looked at
	Times  int             // how often it is made; 0 is once
	Status int
	// Answer is the body of the answer: a text as it is, anything else as JSON.
	Answer json.RawMessage
}

// Hosts answers for all hosts that a case names, whatever address they are reached at. Of several exchanges with one
// request, each answers in its turn. Methods may be called concurrently.
type Hosts struct {
	mu     sync.Mutex
	left   []Exchange
	faults []error
}

// Hosts makes the hosts of a case.
func (c Case) Hosts() *Hosts {
	h := &Hosts{}
	for _, e := range c.HTTP {
		for range max(e.Times, 1) {
			h.left = append(h.left, e)
		}
	}
	return h
}

// Names are the hosts of a case, each once, with whether they are spoken to over TLS.
func (c Case) Names() map[string]bool {
	names := map[string]bool{}
	for _, e := range c.HTTP {
		if u, err := url.Parse(e.URL); err == nil {
			names[u.Host] = u.Scheme == "https"
		}
	}
	return names
}

// ServeHTTP implements http.Handler.
func (h *Hosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	e, found := h.take(r.Method, scheme+"://"+r.Host+r.URL.RequestURI(), body)
	if err != nil || !found {
		http.Error(w, "no such request is expected", http.StatusNotImplemented)
		return
	}
	answer := []byte(e.Answer)
	var text string
	if json.Unmarshal(e.Answer, &text) == nil {
		answer = []byte(text)
	} else if len(answer) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(answer) // who has asked sees that it is cut off
}

// take is the exchange of a request.
func (h *Hosts) take(method, url string, body []byte) (Exchange, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.left, func(e Exchange) bool {
		return e.Method == method && e.URL == url && (e.Body == nil || same(e.Body, body))
	})
	if i < 0 {
		h.faults = append(h.faults, fmt.Errorf("there was the request %s %s %s", method, url, body))
		return Exchange{}, false
	}
	e := h.left[i]
	h.left = slices.Delete(h.left, i, i+1)
	return e, true
}

// same compares JSON.
func same(want, got json.RawMessage) bool {
	var a, b any
	if json.Unmarshal(want, &a) != nil || json.Unmarshal(got, &b) != nil {
		return bytes.Equal(want, got)
	}
	return equal(a, b)
}

// Check says which requests were made that the case does not have, and which were not made.
func (h *Hosts) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	faults := slices.Clone(h.faults)
	for _, e := range h.left {
		faults = append(faults, fmt.Errorf("there was no request %s %s", e.Method, e.URL))
	}
	return errors.Join(faults...)
}
