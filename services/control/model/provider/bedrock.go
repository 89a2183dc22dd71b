package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/pawl-dev/pawl/services/control/model"
)

// signature signs requests for Bedrock with what AWS's own tools would use: variables, profiles, the role of the
// machine.
type signature struct {
	client          aws.HTTPClient
	region, profile string
	turn            chan struct{} // has room for the one who reads the configuration

	mu     sync.Mutex // guards what follows
	config *aws.Config
	last   [2]aws.Credentials // that signed last: a call may still carry the ones before
}

// service is Bedrock's name in a signature.
const service = "bedrock"

func (s *signature) prove(ctx context.Context, r *http.Request, body [][]byte) error {
	c, err := s.configuration(ctx)
	if err != nil {
		return err
	}
	credentials, err := c.Credentials.Retrieve(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && isNetwork(err):
		return &identityError{text: "the server that issues AWS's credentials is not reached", retryable: true}
	case err != nil:
		return &identityError{text: "there are no credentials of AWS: set AWS_ACCESS_KEY_ID and " +
			"AWS_SECRET_ACCESS_KEY in the environment of control, or bedrock.profile of the provider in the " +
			"providers file; of a profile or a role that is set, aws sts get-caller-identity says what is wrong"}
	}
	s.signed(credentials)
	if r.URL.Host == "" || strings.Contains(r.URL.Host, "..") { // the region was not known when the model was opened
		u := *r.URL
		address, _ := bedrockAddress(model.Endpoint{Cloud: model.Cloud{Region: c.Region}}, "")
		if at, err := url.Parse(address); err == nil {
			u.Host, r.Host = at.Host, at.Host
		}
		r.URL = &u
	}
	hash := sha256.New()
	for _, part := range body {
		_, _ = hash.Write(part)
	}
	err = v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(hash.Sum(nil)), service, c.Region, time.Now())
	if err != nil {
		return &identityError{text: "the request cannot be signed"}
	}
	return nil
}

func (s *signature) signed(by aws.Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.last[0]; now.AccessKeyID != by.AccessKeyID || now.SessionToken != by.SessionToken {
		s.last[1] = now
	}
	s.last[0] = by
}

// configuration is AWS's, read once, and again when credentials that end were refused.
func (s *signature) configuration(ctx context.Context) (*aws.Config, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	have := s.config
	s.mu.Unlock()
	if have != nil {
		return have, nil
	}
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(s.client)}
	if s.region != "" {
		options = append(options, config.WithRegion(s.region))
	}
	if s.profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.profile))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &identityError{text: "AWS's configuration cannot be read; check bedrock.profile of the " +
			"provider, and " +
			"the files that AWS's tools read"}
	case c.Region == "":
		return nil, &identityError{text: "no region of AWS is set: set AWS_REGION in the environment of control, or " +
			"bedrock.region of the provider in the providers file"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = &c
	return s.config, nil
}

// forget has all be read anew after the server has refused credentials that end, since tools of AWS's replace them in
// the files of profiles. Those that never end would be the same again.
func (s *signature) forget(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := r.Header.Get("X-Amz-Security-Token")
	if sent != "" && sent == s.last[0].SessionToken {
		s.config = nil
	}
	return sent != "" // another call may have others already
}

func (s *signature) secrets() (all []model.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.last {
		all = append(all, model.Secret(c.SessionToken), model.Secret(c.SecretAccessKey))
	}
	return all
}
