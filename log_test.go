package pawl_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// loggers are how loggers are named in this module, and the methods that write a line, with the index of the message.
var (
	loggers = []string{"log", "Log", "logger", "Logger", "slog"}
	writes  = map[string]int{
		"Debug":        0,
		"Info":         0,
		"Warn":         0,
		"Error":        0,
		"DebugContext": 1,
		"InfoContext":  1,
		"WarnContext":  1,
		"ErrorContext": 1,
		"LogAttrs":     2,
	}
	messageForm = regexp.MustCompile(`^[a-z][^A-Z%]*$`)
	keyForm     = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

// Lines are found again by their message, and counted by it: it is a constant in lowercase, and what differs is in
// attributes.
func TestLogLinesHaveConstantMessages(t *testing.T) {
	lines := 0
	for _, p := range load(t) {
		if !under(p.folder, "services", "internal/rpc", "cmd") {
			continue
		}
		for _, f := range p.files {
			if f.test() {
				continue
			}
			files := token.NewFileSet()
			full, err := parser.ParseFile(files, f.name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(full, func(n ast.Node) bool {
				message, attrs, ok := logLine(n)
				if !ok {
					return true
				}
				lines++
				at := files.Position(n.Pos())
				text, constant := literal(message)
				if !constant || !messageForm.MatchString(text) {
					t.Errorf("%s: the message of a line is a constant text in lowercase without %%", at)
				}
				for i := 0; i < len(attrs); i += 2 {
					if key, constant := literal(attrs[i]); constant && !keyForm.MatchString(key) {
						t.Errorf("%s: the key %q is not in snake_case", at, key)
					}
				}
				return true
			})
		}
	}
	if lines < 50 {
		t.Errorf("only %d lines were found: loggers have other names", lines)
	}
}

// logLine is the message and the keys and values of a call that writes a line.
func logLine(n ast.Node) (message ast.Expr, attrs []ast.Expr, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, nil, false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil, nil, false
	}
	name := ""
	switch x := method.X.(type) {
	case *ast.Ident:
		name = x.Name
	case *ast.SelectorExpr:
		name = x.Sel.Name
	case *ast.CallExpr:
		if f, ok := x.Fun.(*ast.SelectorExpr); ok {
			name = f.Sel.Name
		}
	}
	at, known := writes[method.Sel.Name]
	if !known || !slices.Contains(loggers, name) || len(call.Args) <= at {
		return nil, nil, false
	}
	if method.Sel.Name == "LogAttrs" {
		return call.Args[at], nil, true
	}
	return call.Args[at], call.Args[at+1:], true
}

// literal is a constant text that stands where it is used.
func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}
