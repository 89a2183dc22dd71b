package main

import (
	"errors"
	"regexp"
	"strings"
)

// allowed are the licences with a phrase that only their text has; case and white space do not count.
var allowed = []struct{ name, phrase string }{
	{"Apache-2.0", "apache license version 2.0"},
	{"Apache-2.0", "licensed under the apache license, version 2.0"},
	{"MPL-2.0", "mozilla public license version 2.0"},
	{"MPL-2.0", "mozilla public license, version 2.0"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"BSD", "redistribution and use in source and binary forms, with or without modification, are permitted"},
	{"ISC", "permission to use, copy, modify, and distribute this software for any purpose with or without fee"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"},
	{"CC0-1.0", "cc0 1.0 universal"},
	{"Unlicense", "this is free and unencumbered software released into the public domain"},
}

// copyleft finds the title of a GNU licence or the usual notice. The bare name does not do: MPL-2.0 allows to combine
// with them.
var copyleft = regexp.MustCompile(`gnu (affero |lesser |library )?general public license version [0-9]|` +
	`under the terms of the gnu (affero |lesser |library )?general public license|` +
	`server side public license version|business source license 1`)

// decoration is what editors add: comment signs, markdown, quotation.
var decoration = strings.NewReplacer("#", " ", "*", " ", "//", " ", "_", " ", "=", " ", "`", " ", ">", " ")

var errCopyleft = errors.New("a copyleft or source-available licence")

var errUnknown = errors.New("no known licence: read it, then name it in internal/licenses")

// classify names the licences that a text contains.
func classify(text string) ([]string, error) {
	text = strings.ToLower(strings.Join(strings.Fields(decoration.Replace(text)), " "))
	if copyleft.MatchString(text) {
		return nil, errCopyleft
	}
	var found []string
	for _, licence := range allowed {
		if strings.Contains(text, licence.phrase) {
			found = append(found, licence.name)
		}
	}
	if len(found) == 0 {
		return nil, errUnknown
	}
	return found, nil
}
