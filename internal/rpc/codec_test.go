package rpc

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A message on its way takes little more room than it has bytes, and arrives as it was.
func TestMessagesWasteLittle(t *testing.T) {
	c := newCodec()
	for _, size := range []int{
		0, 10, 1000, 1100, 5000, 12<<10 - 4, 16 << 10, 17_000, 31 << 10, 33 << 10, 200_000, 3 << 20,
	} {
		in := wrapperspb.Bytes(bytes.Repeat([]byte("x"), size))
		sent, err := c.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if size > 4096 && size < 1<<20 {
			buf := buffers.Get(sent.Len())
			if most := size + max(4<<10, size/2); cap(*buf) > most {
				t.Errorf("%d bytes take %d", size, cap(*buf))
			}
			buffers.Put(buf)
		}
		var out wrapperspb.BytesValue
		if err := c.Unmarshal(sent, &out); err != nil || !proto.Equal(in, &out) {
			t.Errorf("%d bytes: %v, %d bytes arrived", size, err, len(out.GetValue()))
		}
		sent.Free()
	}
}
