package model

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
)

// cloud notes which cloud a provider's models run in.
func (p *providers) cloud(key string, n *yaml.Node, c *Cloud, kind CloudKind, fields ...document.Field) {
	if c.Kind != "" {
		p.Report(document.At(n), key, "cannot be given together with %s: a provider's models run in one place", c.Kind)
		return
	}
	c.Kind = kind
	p.Mapping(n, key, fields...)
}

func (p *providers) vertex(key string, n *yaml.Node, c *Cloud) {
	p.cloud(key, n, c, Vertex, p.place("project", &c.Project), p.place("location", &c.Location))
}

func (p *providers) azure(key string, n *yaml.Node, c *Cloud) {
	p.cloud(key, n, c, Azure, p.place("api_version", &c.APIVersion),
		document.Key("auth", func(key string, n *yaml.Node) {
			auth, _ := p.Word(key, n, "key", "entra")
			c.Entra = auth == "entra"
		}))
}

func (p *providers) bedrock(key string, n *yaml.Node, c *Cloud) {
	p.cloud(key, n, c, Bedrock, p.place("region", &c.Region), p.place("profile", &c.Profile))
}

// place reads a name that becomes a part of an address.
func (p *providers) place(name string, to *string) document.Field {
	return document.Key(name, func(key string, n *yaml.Node) {
		s, ok := p.Text(key, n, maxVariable)
		if ok && (s == "" || strings.ContainsFunc(s, func(c rune) bool {
			return c != '-' && c != '.' && c != ':' && c != '_' &&
				(c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
		})) {
			p.Report(document.At(n), key, "must be of letters, digits, dashes, dots, colons and underscores")
			return
		}
		*to = s
	})
}

// clouded checks that a provider and its models speak what their cloud does. known is the cloud that the catalogue
// knows the provider's name by.
func (p *providers) clouded(name string, k *yaml.Node, out Provider, known Cloud) {
	kind := out.Cloud.Kind
	if kind == "" && (out.BaseURL == "" || out.API == "") {
		kind = known.Kind
	}
	if kind == Azure && out.Cloud.Entra && out.KeyEnv != "" {
		p.Report(document.At(k), name+".key_env", "cannot be given with azure.auth: entra, which uses no key")
	}
	if kind == Vertex && out.KeyEnv != "" {
		p.Report(document.At(k), name+".key_env", "cannot be given with vertex: Google Cloud is asked with the "+
			"application "+
			"default credentials")
	}
	check := func(key string, api API) {
		if spoken := kind.apis(); api != "" && !slices.Contains(spoken, api) {
			where := string(kind)
			if where == "" {
				where = "a provider without bedrock, azure or vertex"
			}
			p.Report(document.At(k), key, "%s does not speak %s", where, api)
		}
	}
	check(name+".api", out.API)
	for id, m := range out.Models {
		check(name+".models."+document.Printable(id)+".api", m.API)
	}
}
