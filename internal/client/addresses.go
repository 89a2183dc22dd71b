package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pawl-dev/pawl/internal/disk"
)

// Addresses is where a control plane can be reached, kept in its data directory while it runs.
type Addresses struct {
	HTTP string `json:"http"`           // URL
	GRPC string `json:"grpc"`           // host:port
	Cert string `json:"cert,omitempty"` // path of the certificate that it shows; "" is no TLS
	PID  int    `json:"pid"`
}

func addressFile(data string) string { return filepath.Join(data, "control.json") }

// TokenFile is where a data directory has the operator's token.
func TokenFile(data string) string { return filepath.Join(data, "token") }

// withoutToken says what can be done when the operator's token cannot be read, because of err.
func (a Addresses) withoutToken(data string, err error) error {
	other := "give another token with --server " + a.GRPC + " --token-file FILE"
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s, the operator's token, is missing: start the control plane again, which then makes one, "+
			"or %s", TokenFile(data), other)
	}
	return fmt.Errorf("%w: run this as the user that runs the control plane, or %s", err, other)
}

// Write replaces the file at once, so that a reader sees a whole one.
func (a Addresses) Write(data string) error {
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return disk.Replace(addressFile(data), append(body, '\n'))
}

// RemoveAddresses takes the file away.
func RemoveAddresses(data string) error {
	if err := os.Remove(addressFile(data)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the addresses: %w", err)
	}
	return nil
}

// ReadAddresses finds the control plane of a data directory; ok is false when none says that it runs.
func ReadAddresses(data string) (a Addresses, ok bool, err error) {
	body, err := os.ReadFile(addressFile(data))
	if errors.Is(err, fs.ErrNotExist) {
		return Addresses{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	if err != nil {
		return Addresses{}, false, fmt.Errorf("reading the addresses of the control plane: %w", err)
	}
	return a, true, nil
}
