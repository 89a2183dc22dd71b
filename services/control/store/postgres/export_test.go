package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
)

// Format stands for the tables that the migrations make.
var Format = func() string {
	digest := sha256.New()
	files, _ := fs.Glob(migrations, "migrations/*.sql")
	for _, f := range files {
		b, _ := migrations.ReadFile(f)
		digest.Write(b)
	}
	return hex.EncodeToString(digest.Sum(nil))
}()
