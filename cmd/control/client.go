package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/rpc"
)

// answerWithin is how long a control plane may take to say that it is there.
const answerWithin = 3 * time.Second

// dial connects to the control plane that runs on the data directory, as its operator. nil when none answers.
func (o *options) dial(ctx context.Context) (*grpc.ClientConn, error) {
	a, ok, err := readAddresses(o.data)
	if err != nil || !ok {
		return nil, err
	}
	var secure *tls.Config
	if a.Cert != "" {
		if secure, err = pinned(a.Cert); err != nil {
			return nil, err
		}
	}
	conn, err := grpc.NewClient(a.GRPC, append(rpc.DialOptions(), rpc.Security(secure),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.File(o.tokenFile()), Plaintext: secure == nil}))...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	switch status.Code(err) {
	case codes.OK:
		return conn, nil
	case codes.Unavailable: // what a killed one left behind
		return nil, conn.Close()
	}
	return nil, errors.Join(fmt.Errorf("the control plane at %s does not answer: %w", a.GRPC, rpc.FromStatus(err)), conn.Close())
}

// connect is dial for what cannot do without a control plane.
func (o *options) connect(ctx context.Context) (*grpc.ClientConn, error) {
	conn, err := o.dial(ctx)
	if err == nil && conn == nil {
		err = errors.New("no control plane runs on " + o.data + ": start one with `control`, or name another with --data")
	}
	return conn, err
}

// told is an error of a call in words for people.
func told(ctx context.Context, err error) error {
	st, ok := status.FromError(err)
	switch {
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted")
	case !ok || err == nil || rpc.Reason(err) != "":
		return rpc.FromStatus(err)
	case st.Code() == codes.Unavailable:
		return errors.New("the connection to the control plane was lost")
	}
	return errors.New(st.Message())
}

// pinned trusts exactly the certificate in a file: the server's own, which need not name the address that it listens on.
func pinned(certFile string) (*tls.Config, error) {
	body, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("reading the control plane's certificate: %w", err)
	}
	block, _ := pem.Decode(body)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM certificate", certFile)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyPeerCertificate is stricter
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !bytes.Equal(raw[0], block.Bytes) {
				return fmt.Errorf("the server shows another certificate than %s", certFile)
			}
			return nil
		},
	}, nil
}
