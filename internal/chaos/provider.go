package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// The last session speaks to an agent whose first model is of a provider that refuses everything, in the ways in which
// providers do that: the next model does the work.
const (
	fallingName = "falling"
	fallingLast = sessions - 1
)

// agentOf is the agent that a session is with.
func agentOf(session string) string {
	if session == sessionName(fallingLast) {
		return fallingName
	}
	return agentName
}

func sessionName(n int) string { return fmt.Sprintf("s%02d", n) }

// addProvider starts the provider, and writes what control is told of it.
func (c *cluster) addProvider() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(refuse), ReadHeaderTimeout: time.Minute}
	c.nodes.Go(func() error {
		stop := context.AfterFunc(c.life, func() { _ = server.Close() })
		defer stop()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	c.providers = filepath.Join(c.dir, "providers.yaml")
	text := fmt.Sprintf("busy:\n  api: openai-chat\n  base_url: http://%s/v1\n  models: {all: {window: 200000}}\n",
		l.Addr())
	return os.WriteFile(c.providers, []byte(text), 0o600)
}

// refuse is what a provider does that has too much to do. Most of the time it asks to come back in an hour, so that
// nobody tries it again.
func refuse(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	answer := func(status int, kind string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":{"type":%q,"code":%q,"message":"no"}}`, kind, kind)
	}
	hour := func() { w.Header().Set("Retry-After", "3600") }
	switch n := rand.IntN(16); {
	case n == 0:
		answer(529, "overloaded_error")
	case n == 1:
		panic(http.ErrAbortHandler) // the connection breaks
	case n < 6:
		hour()
		answer(http.StatusTooManyRequests, "rate_limit_exceeded")
	case n < 12:
		hour()
		answer(529, "overloaded_error")
	default:
		answer(http.StatusTooManyRequests, "insufficient_quota")
	}
}
