package provider

import "github.com/pawl-dev/pawl/services/control/model"

// Address is where a model is called.
func Address(e model.Endpoint, id string) (string, error) {
	a, err := accessOf(e, id)
	if err != nil {
		return "", err
	}
	return a.url.String(), nil
}
