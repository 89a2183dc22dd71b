package rpc

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/grpc/mem"
)

// sized is a message that is decoded only if it is not too large: decoded it may take many times its size.
type sized struct {
	into  any
	limit int
	size  int // of what came
}

// codec decodes sized messages.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2. That a message is too large is left to whoever reads it: an error here would
// be answered by the library, without a reason.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	s, ok := v.(*sized)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if s.size = data.Len(); s.size > s.limit {
		return nil
	}
	return c.CodecV2.Unmarshal(data, s.into)
}
