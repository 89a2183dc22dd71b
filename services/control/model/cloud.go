package model

import (
	"cmp"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrCloudIncomplete says that something is missing of where a model runs.
var ErrCloudIncomplete = errs.New(errs.FailedPrecondition, "MODEL_CLOUD_INCOMPLETE",
	"it is not known where the model runs")

// CloudKind is a platform that serves models of others, and has addresses and proofs of identity of its own.
type CloudKind string

// Clouds. "" is a server that is reached at the API's own address, by a key.
const (
	Vertex  CloudKind = "vertex"  // Google Cloud: Gemini, and Anthropic's models
	Azure   CloudKind = "azure"   // Azure OpenAI
	Bedrock CloudKind = "bedrock" // AWS
)

// Cloud says where the models of a provider run. A field that is "" is filled in from the variables that the cloud's
// own tools read. It holds no secrets.
type Cloud struct {
	Kind CloudKind
	// Project and Location are Vertex's.
	Project, Location string
	// APIVersion is Azure's, "" for the API that has none in its addresses.
	APIVersion string
	// Entra says that Azure is asked with a token of Microsoft Entra and not with a key.
	Entra bool
	// Region and Profile are AWS's. Whatever is "" is as AWS's configuration has it.
	Region, Profile string
}

// Variables that clouds' own tools read.
var (
	projectVariables  = []string{"GOOGLE_CLOUD_PROJECT", "GOOGLE_VERTEX_PROJECT", "GCLOUD_PROJECT"}
	locationVariables = []string{"GOOGLE_CLOUD_LOCATION", "GOOGLE_VERTEX_LOCATION", "CLOUD_ML_REGION"}
	endpointVariables = []string{"AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_ENDPOINT"}
	regionVariables   = []string{"AWS_REGION", "AWS_DEFAULT_REGION"}
)

// api is the protocol of a model of the cloud, if nothing else is configured.
func (c Cloud) api(id string) API {
	switch c.Kind {
	case Vertex:
		if strings.HasPrefix(id, "claude") {
			return APIAnthropic
		}
		return APIGemini
	case Azure:
		return APIResponses
	case Bedrock:
		return APIConverse
	}
	return ""
}

// apis are the protocols that can be configured for models of a cloud; nil for no cloud, which has all but Bedrock's.
func (k CloudKind) apis() []API {
	switch k {
	case Vertex:
		return []API{APIGemini, APIAnthropic}
	case Azure:
		return []API{APIResponses, APIChat}
	case Bedrock:
		return []API{APIConverse}
	}
	return []API{APIAnthropic, APIChat, APIResponses, APIGemini}
}

// complete fills in what the cloud's own tools would take from the environment.
func (e *Endpoint) complete(ref Ref, getenv func(string) string) error {
	first := func(have string, variables []string) string {
		for _, name := range variables {
			have = cmp.Or(have, strings.TrimSpace(getenv(name)))
		}
		return have
	}
	switch c := &e.Cloud; c.Kind {
	case Vertex:
		c.Location = cmp.Or(first(c.Location, locationVariables), "global")
		if c.Project = first(c.Project, projectVariables); c.Project == "" {
			return ErrCloudIncomplete.With("model %s needs a project of Google Cloud: set %s in the environment of "+
				"control, or vertex.project of the provider in the providers file", ref, projectVariables[0])
		}
	case Azure:
		if e.BaseURL = first(e.BaseURL, endpointVariables); e.BaseURL == "" {
			return ErrCloudIncomplete.With("model %s needs the address of an Azure OpenAI resource: set %s in the "+
				"environment of control, or base_url of the provider in the providers file", ref, endpointVariables[0])
		}
	case Bedrock:
		c.Region = first(c.Region, regionVariables) // else that of the profile
	}
	return nil
}
