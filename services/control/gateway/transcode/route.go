package transcode

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/pawl-dev/pawl/gen/pawl/v1" // registers the services
)

// Route is one way to call an RPC over HTTP: a binding of its google.api.http annotation. A template is made of
// literals and of variables that match one segment each. The last segment may end in a verb, after a colon.
//
// The annotation's grammar is that of google/api/http.proto.
type Route struct {
	Method string // of HTTP
	Path   string // the template
	RPC    protoreflect.MethodDescriptor

	segments []segment
	verb     string // with its colon
	body     bool
}

// segment is a literal, or a variable if field is set.
type segment struct {
	literal string
	field   string // path of a field, as in key.agent
}

// Routes are all bindings of the services in pawl.v1, sorted by path and method.
func Routes() []Route {
	var all []Route
	protoregistry.GlobalFiles.RangeFilesByPackage("pawl.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				all = append(all, routesOf(f.Services().Get(i).Methods().Get(j))...)
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b Route) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
	})
	return all
}

// routesOf are the bindings of an RPC; none for one that is not to be had over HTTP.
func routesOf(m protoreflect.MethodDescriptor) []Route {
	if rule := byHand[m.FullName()]; rule != nil {
		return routesBy(m, rule)
	}
	rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil
	}
	return routesBy(m, rule)
}

// byHand are the rules of RPCs that take a stream, of which a request over HTTP is the only message: the generator of
// OpenAPI's documents refuses annotations of them that have variables. Package openapi describes them.
var byHand = map[protoreflect.FullName]*annotations.HttpRule{
	"pawl.v1.FileService.Exec": {
		Pattern: &annotations.HttpRule_Post{Post: "/v1/sessions/{target.session_id}:exec"}, Body: "*",
		AdditionalBindings: []*annotations.HttpRule{{
			Pattern: &annotations.HttpRule_Post{Post: "/v1/executors/{target.executor_id}:exec"}, Body: "*",
		}},
	},
}

func routesBy(m protoreflect.MethodDescriptor, rule *annotations.HttpRule) []Route {
	all := []Route{routeOf(m, rule)}
	for _, more := range rule.GetAdditionalBindings() {
		all = append(all, routeOf(m, more))
	}
	return all
}

func routeOf(m protoreflect.MethodDescriptor, rule *annotations.HttpRule) Route {
	r := Route{RPC: m, body: rule.GetBody() == "*"}
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		r.Method, r.Path = http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		r.Method, r.Path = http.MethodPost, p.Post
	case *annotations.HttpRule_Put:
		r.Method, r.Path = http.MethodPut, p.Put
	case *annotations.HttpRule_Patch:
		r.Method, r.Path = http.MethodPatch, p.Patch
	case *annotations.HttpRule_Delete:
		r.Method, r.Path = http.MethodDelete, p.Delete
	}
	path := r.Path
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		path, r.verb = path[:i], path[i:]
	}
	for one := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if field, ok := strings.CutPrefix(one, "{"); ok {
			r.segments = append(r.segments, segment{field: strings.TrimSuffix(field, "}")})
		} else {
			r.segments = append(r.segments, segment{literal: one})
		}
	}
	return r
}

// match reads the variables of an escaped path. They are decoded after the path has been split, so that an id may hold
// a slash. A colon that is no verb's is sent as %3A.
func (r *Route) match(escaped string) (vars map[string]string, ok bool) {
	path, ok := strings.CutSuffix(strings.TrimPrefix(escaped, "/"), r.verb)
	if !ok {
		return nil, false
	}
	parts := strings.Split(path, "/")
	if len(parts) != len(r.segments) || r.verb == "" && strings.Contains(parts[len(parts)-1], ":") {
		return nil, false
	}
	for i, want := range r.segments {
		got, err := url.PathUnescape(parts[i])
		switch {
		case err != nil || got == "":
			return nil, false
		case want.field == "" && got != want.literal:
			return nil, false
		case want.field != "":
			if vars == nil {
				vars = map[string]string{}
			}
			vars[want.field] = got
		}
	}
	return vars, true
}

// find is the route of a request. Without one, allow has the methods that the path knows: none when it is unknown.
func find(all []Route, method, escaped string) (r *Route, vars map[string]string, allow []string) {
	for i := range all {
		vars, ok := all[i].match(escaped)
		switch {
		case !ok:
		case all[i].Method == method, all[i].Method == http.MethodGet && method == http.MethodHead && !all[i].streams():
			return &all[i], vars, nil
		default:
			allow = append(allow, all[i].Method)
			if all[i].Method == http.MethodGet && !all[i].streams() {
				allow = append(allow, http.MethodHead)
			}
		}
	}
	return nil, nil, allow
}

func (r *Route) streams() bool { return r.RPC.IsStreamingServer() }

// fullMethod is the RPC's name on the wire.
func (r *Route) fullMethod() string {
	return "/" + string(r.RPC.Parent().FullName()) + "/" + string(r.RPC.Name())
}
