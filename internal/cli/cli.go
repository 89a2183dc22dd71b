// Package cli is what the command lines of both programs share: signals, variables of flags, levels of the log,
// errors in lines.
package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pawl-dev/pawl/internal/loglimit"
)

// Version is the programs'.
const Version = "0.1.0-dev"

// Complain tells an error of a program as a terminal may be given it: much of it was written by others. Errors that
// are joined have a line each.
func Complain(w io.Writer, program string, err error) {
	for line := range strings.Lines(strings.TrimSpace(err.Error())) {
		_, _ = fmt.Fprintf(w, "%s: %s\n", program, Visible(strings.TrimRight(line, "\r\n")))
	}
}

// Variable is the environment variable of a flag.
func Variable(flag string) string {
	return "PAWL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// NameVariables adds to the usage of each flag its variable.
func NameVariables(f *pflag.FlagSet) {
	f.VisitAll(func(one *pflag.Flag) { one.Usage += " [" + Variable(one.Name) + "]" })
}

// FromEnvironment sets flags that were not given from their variables. An error has the code Usage.
func FromEnvironment(f *pflag.FlagSet) (err error) {
	f.VisitAll(func(one *pflag.Flag) {
		if v, ok := os.LookupEnv(Variable(one.Name)); ok && !one.Changed && err == nil {
			var wrong *pflag.InvalidValueError
			switch e := f.Set(one.Name, v); {
			case errors.As(e, &wrong):
				err = WithCode(fmt.Errorf("%s %w", Variable(one.Name), wrongValue(wrong)), Usage)
			case e != nil:
				err = WithCode(fmt.Errorf("%s: %w", Variable(one.Name), e), Usage)
			}
		}
	})
	return err
}

// Logger is what --log-format and --log-level stand for, with at most one line a second of one kind from one cause.
// Lines about errors for which quiet is true are for debugging; nil is for none. Whoever ends calls loglimit.Flush.
func Logger(w io.Writer, format, name string, quiet func(error) bool) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return nil, WithCode(fmt.Errorf("--log-level is debug, info, warn or error, not %q", name), Usage)
	}
	h := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(loglimit.New(slog.NewTextHandler(w, h), quiet)), nil
	case "json":
		return slog.New(loglimit.New(slog.NewJSONHandler(w, h), quiet)), nil
	}
	return nil, WithCode(fmt.Errorf("--log-format is text or json, not %q", format), Usage)
}
