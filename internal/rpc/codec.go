package rpc

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// codec encodes into buffers that are not much larger than what is in them.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// buffers are for messages on their way, which wait there when their reader is slow. The library's own have 32 KiB for
// what is a little above 16 KiB, and a megabyte for what is above 32 KiB.
var buffers = mem.NewTieredBufferPool(2<<10, 4<<10, 8<<10, 12<<10, 16<<10, 20<<10, 24<<10, 28<<10, 32<<10, 48<<10,
	64<<10, 96<<10, 128<<10, 192<<10, 256<<10, 384<<10, 512<<10, 1<<20)

// encoded is a message that Marshal has encoded before. Its sender need not hold what it was made of.
type encoded struct{ data mem.BufferSlice }

// Marshal implements encoding.CodecV2. Of what is encoded it returns the data, once.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(encoded); ok {
		return e.data, nil
	}
	m, ok := v.(proto.Message)
	size := 0
	if ok {
		size = proto.Size(m)
	}
	if mem.IsBelowBufferPoolingThreshold(size) {
		return c.CodecV2.Marshal(v)
	}
	buf := buffers.Get(size)
	if _, err := (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend((*buf)[:0], m); err != nil {
		buffers.Put(buf)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buf, buffers)}, nil
}
