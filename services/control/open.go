package control

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/model/provider"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// ErrDatabase refuses a name of a database.
var ErrDatabase = errs.New(errs.InvalidArgument, "DATABASE_UNKNOWN", "a database is memory, sqlite:PATH or "+
	"postgres://…")

// Database says where the state is.
type Database struct {
	// Name is memory, sqlite:PATH or postgres://….
	Name string
	// Direct is a postgres:// address of the same database that leads to the server itself, where Name leads to a
	// pooler. "" is none.
	Direct string
	// NoRowSecurity leaves it to this program's own checks to keep tenants apart, on Postgres too.
	NoRowSecurity bool
}

// OpenStore opens a database.
func OpenStore(ctx context.Context, d Database, log *slog.Logger) (store.Store, error) {
	postgresURL := strings.HasPrefix(d.Name, "postgres://") || strings.HasPrefix(d.Name, "postgresql://")
	switch {
	case postgresURL:
		return postgres.Open(ctx, d.Name, postgres.Options{Direct: d.Direct, NoRowSecurity: d.NoRowSecurity, Log: log})
	case d.Direct != "":
		return nil, ErrDatabase.With("a direct address is for Postgres behind a pooler, and the database is %q", d.Name)
	case d.Name == "memory":
		return sqlite.Open(ctx, sqlite.Memory, sqlite.Options{})
	case strings.HasPrefix(d.Name, "sqlite:"):
		return sqlite.Open(ctx, strings.TrimPrefix(d.Name, "sqlite:"), sqlite.Options{})
	}
	return nil, ErrDatabase.With("%q is no database: use memory, sqlite:PATH or postgres://…", d.Name)
}

// DatabaseAway reports whether err says that the database cannot be reached. The store tells the log of each outage,
// once.
func DatabaseAway(err error) bool { return errors.Is(err, postgres.ErrUnavailable) }

// NewModels resolves the offline model, those of the providers that are known, and those that the providers file has.
// "" is no file. Keys and what the file refers to are variables that lookup finds.
func NewModels(file string, lookup agent.Lookup) (*model.Registry, error) {
	var config model.Config
	if file != "" {
		src, err := document.Load(file)
		if err != nil {
			return nil, model.ErrInvalidProviders.With("%v", err)
		}
		if config.Providers, err = model.ParseProviders(file, src, provider.Known, lookup); err != nil {
			return nil, err
		}
	}
	apis := provider.APIs(nil)
	apis[model.APIOffline] = offline.Open
	getenv := func(name string) string { v, _ := lookup(name); return v }
	return model.NewRegistry(config, model.Deps{
		APIs: apis, Known: provider.Known, Info: provider.Info, IDs: provider.IDs, Getenv: getenv,
	}), nil
}
