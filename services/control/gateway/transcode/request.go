package transcode

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/pawl-dev/pawl/internal/bodies"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
)

// maxDepth is how deep the values of a body may be nested.
const maxDepth = 100

// Failures of requests, found before an RPC is called.
var (
	errBody  = errs.New(errs.InvalidArgument, "BODY_INVALID", "the body is not what this operation takes")
	errQuery = errs.New(errs.InvalidArgument, "PARAMETER_INVALID", "a query parameter is not what this operation "+
		"takes")
	errPath   = errs.New(errs.InvalidArgument, "PATH_INVALID", "the path is not valid")
	errCursor = errs.New(errs.InvalidArgument, "CURSOR", "a cursor, in the header Last-Event-ID or the parameter "+
		"after, is the id of an event")
	errMediaType = errs.New(errs.InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", "send the body as JSON, with "+
		"`content-type: application/json`")
	errTooLarge = errs.New(errs.InvalidArgument, "BODY_TOO_LARGE", fmt.Sprintf("a body has at most %d bytes",
		rpc.MaxMessage))
	errLate = errs.New(errs.InvalidArgument, "BODY_LATE", "the body did not arrive in time")
	errKey  = errs.New(errs.InvalidArgument, "IDEMPOTENCY_KEY", "the header Idempotency-Key is not UTF-8")
	errKeys = errs.New(errs.InvalidArgument, "IDEMPOTENCY_KEY", "the header Idempotency-Key and the field "+
		"idempotencyKey differ: send one of them")
	errOnBehalfOf = errs.New(errs.InvalidArgument, "ON_BEHALF_OF", "the header Pawl-On-Behalf-Of and the field "+
		"onBehalfOf differ: send one of them")
	errOnBehalfOfText = errs.New(errs.InvalidArgument, "ON_BEHALF_OF", "the header Pawl-On-Behalf-Of is not UTF-8")
)

// message is a new message of a type of pawl.v1.
func message(d protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, fmt.Errorf("the type %s: %w", d.FullName(), err)
	}
	return kind.New().Interface(), nil
}

// badEnum is how the parser refuses a value of an enum: the name of the field in JSON, and the value.
var badEnum = regexp.MustCompile(`invalid value for enum field (\w+): (.+)$`)

// parse reads the JSON of a message. What is no value of an enum is told those that are.
func parse(body []byte, in proto.Message) error {
	err := (protojson.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(body, in)
	if err == nil {
		return nil
	}
	text := clean(err)
	if found := badEnum.FindStringSubmatch(text); found != nil {
		var forms []string
		seen := map[protoreflect.FullName]bool{}
		for _, e := range enums(in.ProtoReflect().Descriptor(), found[1], seen) {
			if form := formOfEnum(e); !slices.Contains(forms, form) {
				forms = append(forms, form)
			}
		}
		if len(forms) > 0 {
			return errBody.With("the field %s is %s, not %.64s", found[1], strings.Join(forms, ", or "), found[2])
		}
	}
	return errBody.With("%s", text)
}

// enums are those of the fields of a name in JSON, of a message and of all that may be in it. seen are the messages
// that were looked at.
func enums(
	d protoreflect.MessageDescriptor, name string, seen map[protoreflect.FullName]bool,
) (found []protoreflect.EnumDescriptor) {
	if seen[d.FullName()] {
		return nil
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		switch f := d.Fields().Get(i); {
		case f.Enum() != nil && f.JSONName() == name:
			found = append(found, f.Enum())
		case f.Message() != nil:
			found = append(found, enums(f.Message(), name, seen)...)
		}
	}
	return found
}

// decode makes the request of an RPC out of one over HTTP: body, query parameters, path and headers. What the path says
// stands.
func (r *Route) decode(req *http.Request, vars map[string]string, body []byte) (proto.Message, error) {
	in, err := message(r.RPC.Input())
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		if err := parse(body, in); err != nil {
			return nil, err
		}
	}
	if err := r.query(in, req.URL); err != nil {
		return nil, err
	}
	for field, value := range vars {
		if !utf8.ValidString(value) {
			return nil, errPath.With("%s is not UTF-8", field)
		}
		if err := runtime.PopulateFieldFromPath(in, field, value); err != nil {
			return nil, errPath.With("%s: %s", field, clean(err))
		}
	}
	return in, headers(in, req.Header)
}

// query fills in what the parameters say. A parameter that is not known is refused: who misspells one shall hear of it.
func (r *Route) query(in proto.Message, u *url.URL) error {
	if u.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errQuery.With("the query is malformed: %s", clean(err))
	}
	for key := range values {
		if r.body || !known(in.ProtoReflect().Descriptor(), key) {
			return errQuery.With("there is no parameter %.64q%s", key, keyed(in.ProtoReflect().Descriptor(), key))
		}
	}
	for key, all := range values {
		if slices.ContainsFunc(all, func(v string) bool { return !utf8.ValidString(v) }) {
			return errQuery.With("%.64q is not UTF-8", key)
		}
	}
	none := utilities.NewDoubleArray(nil)
	if err := runtime.PopulateQueryParameters(in, values, none); err != nil {
		for key, all := range values {
			alone := in.ProtoReflect().New().Interface()
			form := formOf(in.ProtoReflect().Descriptor(), key)
			if form != "" && runtime.PopulateQueryParameters(alone, url.Values{key: all}, none) != nil {
				return errQuery.With("the parameter %s is %s, not %.64q", key, form, strings.Join(all, ", "))
			}
		}
		return errQuery.With("%s", clean(err))
	}
	return nil
}

// keyed says how the parameters of a map are written, if the key of one that there is not begins like these.
func keyed(d protoreflect.MessageDescriptor, key string) string {
	name, rest, _ := strings.Cut(key, ".")
	if f := field(d, name); f == nil || !f.IsMap() {
		return ""
	}
	return fmt.Sprintf(": write %.64s[%.64s]=VALUE", name, cmp.Or(rest, "KEY"))
}

// formOf says what a parameter of the path of a field looks like, "" where nothing general can be said.
func formOf(d protoreflect.MessageDescriptor, key string) string {
	name, rest, nested := strings.Cut(key, ".")
	f := field(d, name)
	switch {
	case f == nil || f.IsList() || f.IsMap():
		return ""
	case nested && f.Message() != nil:
		return formOf(f.Message(), rest)
	case f.Kind() == protoreflect.MessageKind:
		return formsOfMessages[f.Message().FullName()]
	case f.Kind() == protoreflect.EnumKind:
		return formOfEnum(f.Enum())
	}
	return formsOfKinds[f.Kind()]
}

// formOfEnum names the values of an enum but for the one that says nothing.
func formOfEnum(e protoreflect.EnumDescriptor) string {
	var names []string
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); v.Number() != 0 {
			names = append(names, string(v.Name()))
		}
	}
	return "one of " + strings.Join(names, ", ")
}

var formsOfMessages = map[protoreflect.FullName]string{
	"google.protobuf.Duration":  "a duration such as 60s",
	"google.protobuf.Timestamp": "a time such as 2026-01-31T12:00:00Z",
}

var formsOfKinds = map[protoreflect.Kind]string{
	protoreflect.BoolKind:  "true or false",
	protoreflect.Int32Kind: "a whole number", protoreflect.Int64Kind: "a whole number",
	protoreflect.Uint32Kind: "a whole number of at least 0", protoreflect.Uint64Kind: "a whole number of at least 0",
	protoreflect.DoubleKind: "a number", protoreflect.FloatKind: "a number",
}

// known reports whether a key is the path of a field, by its names in JSON or proto. A value of a map is labels[key].
func known(d protoreflect.MessageDescriptor, key string) bool {
	name, rest, nested := strings.Cut(key, ".")
	if of, item, ok := strings.Cut(key, "["); ok {
		f := field(d, of)
		return f != nil && f.IsMap() && strings.HasSuffix(item, "]") && item != "]"
	}
	f := field(d, name)
	switch {
	case f == nil || f.IsMap():
		return false
	case nested:
		return f.Message() != nil && known(f.Message(), rest)
	}
	return true
}

// field is the field of a name in JSON or proto, nil for none.
func field(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := d.Fields().ByJSONName(name); f != nil {
		return f
	}
	return d.Fields().ByTextName(name)
}

// OnBehalfOfHeader says for whom the sender of a prompt speaks.
const OnBehalfOfHeader = "Pawl-On-Behalf-Of"

// headers fills in the fields that have headers of their own: idempotency_key, on_behalf_of and after.
func headers(in proto.Message, head http.Header) error {
	m := in.ProtoReflect()
	fields := m.Descriptor().Fields()
	if f, key := fields.ByName("idempotency_key"), head.Get("Idempotency-Key"); f != nil && key != "" {
		if have := m.Get(f).String(); have != "" && have != key {
			return errKeys
		}
		if !utf8.ValidString(key) {
			return errKey
		}
		m.Set(f, protoreflect.ValueOfString(key))
	}
	if f, name := fields.ByName("on_behalf_of"), head.Get(OnBehalfOfHeader); f != nil && name != "" {
		if have := m.Get(f).String(); have != "" && have != name {
			return errOnBehalfOf
		}
		if !utf8.ValidString(name) {
			return errOnBehalfOfText
		}
		m.Set(f, protoreflect.ValueOfString(name))
	}
	f := fields.ByName("after")
	if f == nil || f.Kind() != protoreflect.Int64Kind {
		return nil
	}
	if last := head.Get("Last-Event-ID"); last != "" { // what a client of server-sent events repeats by itself wins
		seq, ok := sse.ParseID(last)
		if !ok {
			return errCursor
		}
		m.Set(f, protoreflect.ValueOfInt64(seq))
	}
	return nil
}

// readBody returns the body, nil for none. It is read as a whole: a request is one message.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || r.Header.Get("Content-Encoding") != "" {
		return nil, errMediaType
	}
	if r.ContentLength > rpc.MaxMessage {
		return nil, errTooLarge // without reading it
	}
	var tooLarge *http.MaxBytesError
	limited := http.MaxBytesReader(w, r.Body, rpc.MaxMessage)
	body, err := bodies.FromContext(r.Context()).ReadAll(limited, r.ContentLength)
	switch {
	case errors.Is(err, bodies.ErrFull):
		return nil, err
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errLate
	case err != nil:
		return nil, errBody.With("the body could not be read to its end")
	}
	// The deadline is the connection's, and the server reads from it to see whether the client is still there.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return bytes.TrimSpace(body), nil
}

// clean is a library's error without its name, and without the spaces that it varies from build to build.
func clean(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
}
