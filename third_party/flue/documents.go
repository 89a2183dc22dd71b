// Package flue has what is taken over from Flue 0.10.2 as it is. See README.md for where it comes from.
package flue

import _ "embed"

// Public describes the public routes: an OpenAPI 3.1 document.
//
//go:embed public.openapi.json
var Public []byte

// Admin describes the routes below /admin: an OpenAPI 3.1 document.
//
//go:embed admin.openapi.json
var Admin []byte
