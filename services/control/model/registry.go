package model

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Errors of resolving a model.
var (
	ErrUnknownProvider = errs.New(errs.NotFound, "MODEL_PROVIDER_UNKNOWN", "no such model provider is configured")
	ErrKeyMissing      = errs.New(errs.FailedPrecondition, "MODEL_KEY_MISSING", "the model provider's key is not set")
)

// Config is what a Registry is told. The zero value works.
type Config struct {
	Providers map[string]Provider // see ParseProviders
	Retry     RetryPolicy
}

// Endpoint is what an Open needs to know of the provider of one model: its address, its key, and the settings that hold
// for the model.
type Endpoint struct {
	Name     string // of the provider
	BaseURL  string // "" is the API's own, or the cloud's
	Key      Secret // "" sends none
	Cloud    Cloud
	Settings      // API is set; the Registry itself applies Timeouts
	Info     Info // what the providers file says about the model
}

// Open makes the model with this id. It does not call the provider.
type Open func(e Endpoint, id string) (Model, error)

// Deps are what a Registry is given, so that this package links no provider's library.
type Deps struct {
	// APIs are the protocols that can be spoken.
	APIs map[API]Open
	// Known is the catalogue of providers that need no configuration; nil knows none.
	Known func(name string) (Provider, bool)
	// Info is what is known about the model of an endpoint with this id; nil knows what the providers file says.
	Info func(e Endpoint, id string) Info
	// IDs are the ids of the models that the catalogue has of a provider; nil has none.
	IDs func(provider string) []string
	// Getenv reads the environment that keys come from.
	Getenv func(string) string
}

// Registry resolves models by name. Safe for concurrent use.
type Registry struct {
	config Config
	deps   Deps

	mu       sync.Mutex
	models   map[Ref]opened
	limiters map[[sha256.Size]byte]*Limiter
	shared   atomic.Pointer[shared] // see Share
}

// opened is a model with the key that it was made with, so that a changed key makes a new one.
type opened struct {
	model Model
	key   Secret
}

// maxModels bounds the cache against names that clients invent.
const maxModels = 1024

// NewRegistry makes a registry. Keys are read when a model is resolved: one that is missing is no error until it is
// needed.
func NewRegistry(c Config, d Deps) *Registry {
	return &Registry{config: c, deps: d, models: map[Ref]opened{}, limiters: map[[sha256.Size]byte]*Limiter{}}
}

// Model resolves ref. The result retries, times out, and waits for a rate limit together with all others that call
// the same model with the same key.
func (r *Registry) Model(ref Ref) (Model, error) {
	e, err := r.endpoint(ref)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.models[ref]; ok && o.key == e.Key {
		return o.model, nil
	}
	m, err := r.deps.APIs[e.API](e, ref.ID)
	if err != nil {
		return nil, err
	}
	if e.API != APIOffline {
		m = Retrying(Limited(Timeouts(m, e.Timeouts), r.limiter(e, ref.ID)), r.config.Retry)
	}
	if len(r.models) < maxModels {
		r.models[ref] = opened{model: m, key: e.Key}
	}
	return m, nil
}

// Check says why ref cannot be resolved, without calling or making anything: ErrUnknownProvider, ErrKeyMissing or
// ErrCloudIncomplete.
func (r *Registry) Check(ref Ref) error {
	_, err := r.endpoint(ref)
	return err
}

// endpoint finds the provider of ref and its key.
func (r *Registry) endpoint(ref Ref) (Endpoint, error) {
	e, keyEnv, err := r.place(ref)
	if err != nil || keyEnv == "" {
		return e, err
	}
	if e.Key = Secret(strings.TrimSpace(r.deps.Getenv(keyEnv))); e.Key == "" {
		return Endpoint{}, ErrKeyMissing.With(
			"model %s needs a key: set %s in the environment of control and start it again, or use offline/shell, "+
				"which needs none",
			ref, keyEnv)
	}
	return e, nil
}

// place finds the provider of ref, and the variable that holds its key.
func (r *Registry) place(ref Ref) (e Endpoint, keyEnv string, err error) {
	p, ok := r.config.Providers[ref.Provider]
	m := p.Models[ref.ID]
	p.Settings = m.Settings.over(p.Settings)
	if !ok || p.API == "" || p.BaseURL == "" { // the catalogue is only asked when it can add something
		known, isKnown := r.known(ref.Provider)
		p, ok = p.or(known), ok || isKnown
	}
	p.API = cmp.Or(p.API, p.Cloud.api(ref.ID))
	e = Endpoint{Name: ref.Provider, BaseURL: p.BaseURL, Cloud: p.Cloud, Settings: p.Settings, Info: m.Info}
	if _, spoken := r.deps.APIs[e.API]; !ok || !spoken {
		return Endpoint{}, "", ErrUnknownProvider.With(
			"there is no provider %q, which model %s names; add it to the providers file of control with api and "+
				"base_url, or use one that is known, such as %s",
			ref.Provider, ref, r.names())
	}
	return e, p.KeyEnv, e.complete(ref, r.deps.Getenv)
}

// known is the offline provider and what the catalogue knows.
func (r *Registry) known(name string) (Provider, bool) {
	if _, ok := r.deps.APIs[APIOffline]; ok && name == string(APIOffline) {
		return Provider{Settings: Settings{API: APIOffline}}, true
	}
	if r.deps.Known == nil {
		return Provider{}, false
	}
	return r.deps.Known(name)
}

// limiter is the one of the model with this id and the endpoint's key, wherever requests carry the key. The caller
// holds mu.
func (r *Registry) limiter(e Endpoint, id string) *Limiter {
	text := []string{string(e.API), e.BaseURL, id, e.Key.Reveal(), fmt.Sprint(e.Cloud)}
	for _, carried := range []map[string]Secret{e.Headers, e.Query} {
		for _, name := range slices.Sorted(maps.Keys(carried)) {
			text = append(text, name, carried[name].Reveal())
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(text, "\x00")))
	l, ok := r.limiters[sum]
	if !ok {
		if len(r.limiters) >= maxModels {
			maps.DeleteFunc(r.limiters, func(_ [sha256.Size]byte, l *Limiter) bool { return l.idle() })
		}
		l = &Limiter{peers: peers{shared: &r.shared, key: hex.EncodeToString(sum[:])}}
		r.limiters[sum] = l
	}
	return l
}

// names lists providers for an error: what is configured and those that most have.
func (r *Registry) names() string {
	names := map[string]bool{}
	for _, n := range []string{"offline", "anthropic", "openai", "gemini"} {
		if _, ok := r.known(n); ok {
			names[n] = true
		}
	}
	for n := range r.config.Providers {
		names[n] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}
