package tool

import (
	"errors"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxEvaluations is how often one validation may hold a schema, or a part of it, against a value. It takes about
// half a second. Schemas of strangers can be written so that they never come to an end.
const maxEvaluations = 500_000

var errCostly = errors.New("to check them against the schema takes too many steps: give less, or nest it less deeply")

// budget counts what a validation does. It is part of a schema as a vocabulary without keywords.
type budget struct {
	mu   sync.Mutex // held during a validation
	left int
}

// limit makes all that a compiler makes from now on count.
func (b *budget) limit(c *jsonschema.Compiler) {
	c.RegisterVocabulary(&jsonschema.Vocabulary{
		URL: "https://pawl.dev/budget",
		Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) {
			return b, nil
		},
	})
	c.AssertVocabs()
}

// Validate implements jsonschema.SchemaExt.
func (b *budget) Validate(*jsonschema.ValidatorContext, any) {
	if b.left--; b.left < 0 {
		panic(errCostly)
	}
}

// validate holds arguments against the schema. The error is what a schema says is wrong, or errCostly.
func (c contract) validate(v any) (err error) {
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	c.budget.left = maxEvaluations
	defer func() {
		if p := recover(); p != nil {
			if p != errCostly { //nolint:errorlint // the very value
				panic(p)
			}
			err = errCostly
		}
	}()
	return c.schema.Validate(v)
}
