// Package bundle has folders of a project whose files agents need in their workspaces: those of skills and of plugins.
//
//	folder of the project ──Load──▶ []File ──▶ a part of definitions ──Pack──▶ archive ──▶ workspace
//	workspace ──▶ archive ──Compare──▶ whether these are the files
//
// Invariants: a path is relative, has slashes and leads nowhere but into the folder; equal digests mean equal files.
// What a workspace says of itself is never believed: only files that were compared are a bundle's.
package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// File is a file of a folder.
type File struct {
	Path       string `json:"path"` // relative to the folder, with slashes
	Executable bool   `json:"executable,omitempty"`
	Data       []byte `json:"data,omitempty"`
}

// Digest is the sha256 of files with their names and modes, in hex. They are in order of their paths.
func Digest(files []File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %t %d\n", f.Path, f.Executable, len(f.Data))
		h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Folder is the name of the folder that has a bundle's files in a workspace. It tells versions apart.
func Folder(name, digest string) string { return name + "@" + digest[:min(len(digest), 12)] }

// Pack is the files as a tar archive, in a folder of that archive.
func Pack(folder string, files []File) (*bytes.Buffer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		mode := int64(0o644)
		if f.Executable {
			mode = 0o755
		}
		err := w.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: path.Join(folder, f.Path), Mode: mode, Size: int64(len(f.Data)),
			Format: tar.FormatPAX,
		})
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return nil, err
		}
	}
	return &b, w.Close()
}

// Found is how a folder of a workspace differs from what it should be.
type Found uint8

// What can be found.
const (
	Same    Found = iota // the files, and nothing else
	Lacking              // some are missing or different; writing them mends that
	Alien                // something is there that writing the files would leave
)

// Size is an upper bound of an archive of the files, with what archives add to them.
func Size(files []File) int64 {
	size := int64(1 << 16)
	for _, f := range files {
		size += int64(len(f.Data)) + 8<<10 + 2*int64(len(f.Path))
	}
	return size
}

// Compare reads an archive of a folder. It trusts nothing in it: links, other kinds of files and files of other names
// are alien, whatever they hold.
func Compare(archive io.Reader, files []File) (Found, error) {
	missing := map[string]File{}
	folders := map[string]bool{".": true}
	for _, f := range files {
		missing[f.Path] = f
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	found := Same
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Alien, err
		}
		name := path.Clean(h.Name)
		if h.Typeflag == tar.TypeDir && folders[name] {
			continue
		}
		f, ours := missing[name]
		delete(missing, name)
		if h.Typeflag != tar.TypeReg || !ours {
			return Alien, nil
		}
		data, err := io.ReadAll(io.LimitReader(r, int64(len(f.Data))+1))
		if err != nil {
			return Alien, err
		}
		if !bytes.Equal(data, f.Data) || h.Mode&0o100 != 0 != f.Executable {
			found = Lacking
		}
	}
	if len(missing) > 0 {
		return Lacking, nil
	}
	return found, nil
}

// skipped are names of what tools leave behind.
var skipped = map[string]bool{".git": true, ".DS_Store": true, "__pycache__": true}

// secret reports whether a file or folder has a name that secrets have.
func secret(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case ".env", ".aws", ".ssh", ".gnupg", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".kube", ".docker",
		"credentials", "credentials.json", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519":
		return true
	case ".env.example", ".env.sample", ".env.template":
		return false
	}
	return strings.HasPrefix(name, ".env.") || slices.Contains(secretEndings, path.Ext(name))
}

var secretEndings = []string{".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx"}
