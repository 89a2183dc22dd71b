package pgtest

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	root := t.TempDir()
	install := func(dir string, names ...string) string {
		dir = filepath.Join(root, dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	install("pg/9/bin", "initdb", "postgres")
	newest := install("pg/15/bin", "initdb", "postgres")
	client := install("client", "psql", "initdb")
	server := install("server", "initdb", "postgres")
	places := []string{filepath.Join(root, "pg/*/bin")}
	for _, test := range []struct{ name, path, want string }{
		{"search path first", client + ":" + server, server},
		{"then the newest version", client, newest},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, ok := find(test.path, places); !ok || got != test.want {
				t.Errorf("got %s, %v, want %s", got, ok, test.want)
			}
		})
	}
	if got, ok := find(client, nil); ok {
		t.Errorf("got %s, want nothing: a client is not a server", got)
	}
}

func TestVersion(t *testing.T) {
	for dir, want := range map[string]int{
		"/usr/lib/postgresql/15/bin": 15, "/usr/pgsql-17/bin": 17, "/opt/homebrew/opt/postgresql@16/bin": 16, "/usr/local/bin": 0,
	} {
		if got := version(dir); got != want {
			t.Errorf("%s: got %d, want %d", dir, got, want)
		}
	}
}
