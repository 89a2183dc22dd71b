package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/services/control"
)

// addresses is where this control plane can be reached.
func (o *options) addresses(cfg control.Config) client.Addresses {
	a := client.Addresses{HTTP: "http://" + cfg.HTTP.Addr().String(), GRPC: cfg.GRPC.Addr().String(), PID: os.Getpid()}
	if o.cert != "" {
		a.HTTP = "https://" + cfg.HTTP.Addr().String()
		a.Cert = o.cert
		if abs, err := filepath.Abs(o.cert); err == nil {
			a.Cert = abs
		}
	}
	return a
}

// announce tells how to use what runs.
func (o *options) announce(w io.Writer, a client.Addresses) {
	var b strings.Builder
	fmt.Fprintf(&b, "Pawl %s\n  HTTP    %s\n  gRPC    %s\n  state   %s\n  token   %s\n", cli.Version, a.HTTP, a.GRPC,
		o.databaseState(), client.TokenFile(o.data))
	if o.shared() {
		fmt.Fprintf(&b, "  peers   dial %s\n", o.advertise)
	}
	if o.executor == "builtin" {
		fmt.Fprintf(&b, "  calls   run on this host in %s\n", o.root)
	} else {
		fmt.Fprintf(&b, "  calls   wait for an executor: control token create%s --executor NAME\n", o.where())
	}
	if o.auth == "none" {
		b.WriteString("\n  --auth none: every user and every program of this host can prompt agents, run commands as " +
			"you, and make tokens.\n")
	}
	fmt.Fprintf(&b, "\nTry it:\n  %s\n\n", o.curl(a))
	_, _ = io.WriteString(w, b.String())
}

// databaseState is where the state is, without what a URL may keep secret.
func (o *options) databaseState() string {
	if !o.shared() {
		return o.databaseName()
	}
	u, err := url.Parse(o.databaseName())
	if err != nil {
		return "Postgres, and " + o.data
	}
	return "postgres://" + u.Host + u.Path + ", and " + o.data
}

// where is the flag by which other commands find this control plane, if they need one.
func (o *options) where() string {
	if o.data == defaultData {
		return ""
	}
	return " --data " + quote(o.data)
}

// curl is a line that works when pasted.
func (o *options) curl(a client.Addresses) string {
	line := "curl -s"
	if a.Cert != "" {
		line += " --cacert " + quote(a.Cert)
	}
	line += " " + a.HTTP + "/agents/shell/me"
	if o.auth != "none" {
		line += fmt.Sprintf(` -H "Authorization: Bearer $(cat %s)"`, quote(client.TokenFile(o.data)))
	}
	message := "say: hello"
	if o.executor == "builtin" {
		message = "echo hello from $(uname -s)"
	}
	return line + " \\\n    -H 'Content-Type: application/json' -d '{\"message\":\"" + message + "\"}'"
}

// quote makes a path one word of a shell's.
func quote(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-+=:@%", r)
	}) || path == "" {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
