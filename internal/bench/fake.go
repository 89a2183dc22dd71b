package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// fakeModel is a language model over HTTP, in the shapes of two APIs, that always gives the same answer. It runs in
// this process, so that what it costs is not control's.
type fakeModel struct{ url string }

// fakeAgent talks to a fake model through one API.
type fakeAgent struct{ api, name string }

// model says in a row where the answers come from; without an API they are the offline model's.
func (a fakeAgent) model() string {
	if a.api == "" {
		return "no model"
	}
	return a.api + " over HTTP"
}

var fakeAgents = []fakeAgent{{"Anthropic", "anthropic"}, {"OpenAI Chat", "chat"}}

// newFakeModel serves an answer until the run ends. Answers of a few events are written at once, as a server on the
// same machine would be heard; streams of deltas are flushed event by event.
func (r *run) newFakeModel(ctx context.Context, turn modeltest.Turn) (fakeModel, error) {
	mux := http.NewServeMux()
	for prefix, wire := range map[string]modeltest.Wire{"/anthropic": modeltest.Anthropic, "/chat": modeltest.Chat} {
		mux.Handle(prefix+wire.Path, answer(wire.Stream(turn)))
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fakeModel{}, err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	r.atEnd(func() error {
		err := srv.Close()
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	})
	return fakeModel{"http://" + l.Addr().String()}, nil
}

// answer reads the request to its end, as a provider does, and plays.
func answer(p modeltest.Play) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return // the client has gone
		}
		p.ServeHTTP(w, req)
	})
}

// use makes the agents of fakeAgents, whose models are the fake one, on a control plane that is not started yet.
func (m fakeModel) use(p *plane) error {
	agents, file := filepath.Join(p.Data, "agents"), filepath.Join(p.dir, "providers.yaml")
	p.Args = append(p.Args, "--providers", file)
	providers := fmt.Sprintf("anthropic-fake: {api: anthropic, base_url: %s/anthropic}\n"+
		"chat-fake: {api: openai-chat, base_url: %s/chat}\n", m.url, m.url)
	err := errors.Join(os.MkdirAll(agents, 0o700), os.WriteFile(file, []byte(providers), 0o600))
	for _, a := range fakeAgents {
		text := "---\nmodel: " + a.name + "-fake/answers\nsandbox: none\n---\nTalk.\n"
		err = errors.Join(err, os.WriteFile(filepath.Join(agents, a.name+".md"), []byte(text), 0o600))
	}
	return err
}

// bare makes requests of the fake model without a control plane and reads the answers without looking at them.
func (m fakeModel) bare(ctx context.Context) (err error) {
	url := m.url + "/anthropic" + modeltest.Anthropic.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}
