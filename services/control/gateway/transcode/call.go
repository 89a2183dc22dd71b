package transcode

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pawl-dev/pawl/internal/errs"
)

var errOperation = errs.New(errs.NotFound, "OPERATION_NOT_FOUND", "no such operation")

// Operation is the name under which an RPC is called where there are no paths. OpenAPI's operationId is the same.
func Operation(m protoreflect.MethodDescriptor) string {
	name := string(m.Name())
	return strings.ToLower(name[:1]) + name[1:]
}

// Call calls an operation for the holder of a token, and hands on each message that it answers, as JSON: one, or those
// of a stream. The cursor that comes with a message is the seq of its last event, 0 for none. An error that is not
// send's is for Problem.
func (h *Handler) Call(
	ctx context.Context, secret, operation string, request []byte, send func(message []byte, cursor int64) error,
) error {
	i := slices.IndexFunc(h.routes, func(r Route) bool { return Operation(r.RPC) == operation })
	if i < 0 {
		return errOperation.With("there is no operation %.64q: /v1/openapi.json has them as operationId", operation)
	}
	to := &h.routes[i]
	in, err := message(to.RPC.Input())
	if err != nil {
		return err
	}
	if len(request) > 0 {
		if err := parse(request, in); err != nil {
			return err
		}
	}
	ctx = asCaller(ctx, "Bearer "+secret)
	pass := func(m proto.Message) error {
		body, err := encode(m)
		if err != nil {
			return err
		}
		return send(body, cursorIn(m))
	}
	if to.streams() {
		return cause(ctx, h.receive(ctx, to, in, pass))
	}
	out, err := h.invoke(ctx, to, in)
	if err != nil {
		return cause(ctx, err)
	}
	return pass(out)
}

// cursorIn is the seq of a message's last event.
func cursorIn(m proto.Message) int64 {
	f := m.ProtoReflect().Descriptor().Fields().ByName("events")
	if f == nil || !f.IsList() || f.Message() == nil {
		return 0
	}
	list := m.ProtoReflect().Get(f).List()
	seq := f.Message().Fields().ByName("seq")
	if list.Len() == 0 || seq == nil {
		return 0
	}
	return list.Get(list.Len() - 1).Message().Get(seq).Int()
}
