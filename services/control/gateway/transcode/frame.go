package transcode

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pawl-dev/pawl/services/control/gateway/sse"
)

// encode is a message as compact JSON: protojson puts spaces where it likes.
func encode(m proto.Message) ([]byte, error) {
	body, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(len(body))
	err = json.Compact(&out, body)
	return out.Bytes(), err
}

// appendLine adds a message of a stream as a line of JSON.
func appendLine(dst []byte, m proto.Message) ([]byte, error) {
	body, err := encode(m)
	if err != nil {
		return nil, err
	}
	return append(append(dst, body...), '\n'), nil
}

// appendFrames adds a message of a stream as server-sent events: one for each element of its lists and for each of its
// other fields. An event has the name of the field of the oneof that is set in it, or else of the field that it stands
// in. Its id is its seq. A message with other content, such as names, is one event as a whole, and one without content
// adds nothing.
func appendFrames(dst []byte, m proto.Message) ([]byte, error) {
	fields := m.ProtoReflect().Descriptor().Fields()
	if hasScalar(m.ProtoReflect()) {
		body, err := encode(m)
		return sse.AppendFrame(dst, "message", -1, body), err
	}
	for i := range fields.Len() {
		f, v := fields.Get(i), m.ProtoReflect().Get(fields.Get(i))
		var err error
		switch {
		case !m.ProtoReflect().Has(f):
		case f.IsList() && f.Message() != nil:
			for j := range v.List().Len() {
				if dst, err = appendFrame(dst, f, v.List().Get(j).Message()); err != nil {
					return nil, err
				}
			}
		case f.Message() != nil:
			dst, err = appendFrame(dst, f, v.Message())
		}
		if err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// hasScalar reports whether a message has content that is in no message of its own.
func hasScalar(m protoreflect.Message) (has bool) {
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		has = has || f.Message() == nil
		return !has
	})
	return has
}

func appendFrame(dst []byte, in protoreflect.FieldDescriptor, m protoreflect.Message) ([]byte, error) {
	name, id := string(in.Name()), int64(-1)
	if kind := m.Descriptor().Oneofs().ByName("event"); kind != nil {
		if set := m.WhichOneof(kind); set != nil {
			name = string(set.Name())
		}
		if seq := m.Descriptor().Fields().ByName("seq"); m.Has(seq) {
			id = m.Get(seq).Int()
		}
		m = lean(m, name)
	}
	body, err := encode(m.Interface())
	if err != nil {
		return nil, err
	}
	return sse.AppendFrame(dst, name, id, body), nil
}

// lean leaves out of a delta what its frame says already, and its time: there are many of them, and they are short.
func lean(m protoreflect.Message, name string) protoreflect.Message {
	if name != "text" && name != "thinking" {
		return m
	}
	short := m.New()
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Name() != "seq" && f.Name() != "time" {
			short.Set(f, v)
		}
		return true
	})
	return short
}
