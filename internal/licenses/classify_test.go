package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
		err        error
	}{
		{"Apache", "   Apache License\n   Version 2.0, January 2004", []string{"Apache-2.0"}, nil},
		{"MPL names the GPL", "Mozilla Public License Version 2.0\n\"Secondary License\" means either the GNU " +
			"General Public License, Version 2.0, …", []string{"MPL-2.0"}, nil},
		{"MIT as markdown", "# MIT\n\n> *Permission* is hereby granted,\n> free of charge, to any person obtaining a " +
			"copy", []string{"MIT"}, nil},
		{
			"BSD in comments", "// Redistribution and use in source and binary forms, with or without\n// " +
				"modification, are permitted provided that",
			[]string{"BSD"},
			nil,
		},
		{"AGPL", "GNU AFFERO GENERAL PUBLIC LICENSE\n   Version 3, 19 November 2007", nil, errCopyleft},
		{"GPL", "GNU GENERAL PUBLIC LICENSE\n   Version 2, June 1991", nil, errCopyleft},
		{"notice", "redistribute it under the terms of the GNU Lesser General Public License", nil, errCopyleft},
		{"MIT and GPL", "Permission is hereby granted, free of charge, to any person obtaining a copy … GNU General " +
			"Public License\nVersion 3", nil, errCopyleft},
		{"source available", "Business Source License 1.1", nil, errCopyleft},
		{"nothing", "All rights reserved.", nil, errUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := classify(test.text)
			if !slices.Equal(got, test.want) || !errors.Is(err, test.err) {
				t.Errorf("got %v, %v, want %v, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestModule(t *testing.T) {
	module := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	const mit, gpl = "Permission is hereby granted, free of charge, to any person obtaining a copy", "GNU General " +
		"Public License Version 3"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
		err   error
	}{
		"one":             {map[string]string{"LICENSE": mit, "main.go": gpl}, "MIT", nil},
		"a note beside":   {map[string]string{"COPYING": mit, "LICENSE-LOGO": "from the web"}, "MIT", nil},
		"copyleft beside": {map[string]string{"LICENSE": mit, "LICENSE.GPL": gpl}, "", errCopyleft},
		"none":            {map[string]string{"README.md": mit}, "", errUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ofModule(module(test.files))
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %q, %v, want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}
