package picture_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/picture"
)

// noise cannot be compressed.
func noise(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(m.Pix)
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 255
	}
	return m
}

func asPNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asGIF(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gif.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// asWebP is 1 x 1 pixel: there is no encoder in Go.
func asWebP(t testing.TB) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// declared is a PNG of a few bytes that says it has so many pixels.
func declared(w, h uint32, depth, kind byte) []byte {
	header := binary.BigEndian.AppendUint32(nil, w)
	header = append(binary.BigEndian.AppendUint32(header, h), depth, kind, 0, 0, 0)
	out := []byte("\x89PNG\r\n\x1a\n")
	for name, body := range map[string][]byte{"IHDR": header} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
		chunk := append([]byte(name), body...)
		out = append(out, chunk...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
	}
	return out
}

func mustFit(t *testing.T, data []byte) picture.Fitted {
	t.Helper()
	f, err := picture.Fit(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	m, kind, err := image.Decode(bytes.NewReader(f.Data))
	if err != nil || "image/"+kind != f.MediaType || m.Bounds().Size() != image.Pt(f.Width, f.Height) {
		t.Errorf("it says %s of %d x %d, and is %s of %s: %v", f.MediaType, f.Width, f.Height, kind, m.Bounds().Size(),
			err)
	}
	if max(f.Width, f.Height) > picture.MaxSide {
		t.Errorf("%d x %d pixels", f.Width, f.Height)
	}
	if n := base64.StdEncoding.EncodedLen(len(f.Data)); n > picture.MaxBase64 {
		t.Errorf("%d bytes in base64", n)
	}
	return f
}

func TestAnImageThatFitsStaysAsItIs(t *testing.T) {
	small := noise(60, 40)
	for mediaType, data := range map[string][]byte{
		"image/png": asPNG(t, small), "image/jpeg": asJPEG(t, small), "image/gif": asGIF(t,
			small), "image/webp": asWebP(t),
	} {
		f := mustFit(t, data)
		if f.MediaType != mediaType || !bytes.Equal(f.Data, data) || f.Original != (image.Point{}) {
			t.Errorf("%s became %s of %d bytes, %+v", mediaType, f.MediaType, len(f.Data), f.Original)
		}
	}
	if f := mustFit(t, asPNG(t, image.NewGray(image.Rect(0, 0, picture.MaxSide, 1)))); f.Width != picture.MaxSide {
		t.Errorf("the largest that fits became %d x %d", f.Width, f.Height)
	}
}

// The limit of providers counts base64: 4.5 MB of PNG are 6 MB of it.
func TestAnImageOfTooManyBytesIsEncodedAnew(t *testing.T) {
	data := asPNG(t, noise(1500, 1000))
	if raw, sent := len(data), base64.StdEncoding.EncodedLen(len(data)); raw > 6e6 || sent <= picture.MaxBase64 {
		t.Fatalf("%d bytes, %d in base64", raw, sent)
	}
	if f := mustFit(t, data); f.MediaType != "image/jpeg" || f.Width != 1500 || f.Height != 1000 {
		t.Errorf("it became %s of %d x %d", f.MediaType, f.Width, f.Height)
	}
}

func TestAnImageOfTooManyPixelsIsScaled(t *testing.T) {
	for name, c := range map[string]struct{ size, want image.Point }{
		"wide":   {image.Pt(4000, 3000), image.Pt(2000, 1500)},
		"high":   {image.Pt(30, 8100), image.Pt(7, 2000)},
		"a line": {image.Pt(9001, 1), image.Pt(2000, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			f := mustFit(t, asPNG(t, image.NewGray(image.Rectangle{Max: c.size})))
			if image.Pt(f.Width, f.Height) != c.want || f.MediaType != "image/png" || f.Original != c.size {
				t.Errorf("it became %s of %d x %d", f.MediaType, f.Width, f.Height)
			}
		})
	}
}

func TestAScaledImageShowsTheSame(t *testing.T) {
	src := image.NewNRGBA(image.Rect(0, 0, 2501, 1203)) // odd, so that pixels are divided
	for y := range 1203 {
		for x := range 2501 {
			c := color.NRGBA{R: 200, A: 255}
			if x > 1250 {
				c = color.NRGBA{B: 100, A: 128}
			}
			src.SetNRGBA(x, y, c)
		}
	}
	f := mustFit(t, asPNG(t, src))
	m, err := png.Decode(bytes.NewReader(f.Data))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []image.Point{{}, {999, 0}, {0, f.Height - 1}, {998, 500}} {
		if c := color.NRGBAModel.Convert(m.At(at.X, at.Y)); c != (color.NRGBA{R: 200, A: 255}) {
			t.Errorf("left, at %s: %v", at, c)
		}
	}
	for _, at := range []image.Point{{1002, 0}, {f.Width - 1, f.Height - 1}} {
		c := color.NRGBAModel.Convert(m.At(at.X, at.Y))
		if c != (color.NRGBA{B: 100, A: 128}) && c != (color.NRGBA{B: 99, A: 128}) { // alpha rounds
			t.Errorf("right, at %s: %v", at, c)
		}
	}
}

func TestWhatIsNoImageIsRefused(t *testing.T) {
	truncated := asPNG(t, noise(100, 100))
	many := append(asJPEG(t, noise(10, 10)), bytes.Repeat([]byte{0xff, 0xda}, 100)...)
	broken := asJPEG(t, noise(100, 100))
	for name, c := range map[string]struct {
		data []byte
		why  string
	}{
		"nothing":           {nil, "neither PNG"},
		"text":              {[]byte("hello"), "neither PNG"},
		"another kind":      {[]byte("BM" + strings.Repeat("\x00", 60)), "neither PNG"},
		"only a name":       {[]byte("\x89PNG\r\n\x1a\n"), "EOF"},
		"cut":               {truncated[:len(truncated)/2], "not enough"},
		"cut in the middle": {broken[:len(broken)/2], "short"},
		"a wrong checksum":  {bytes.Replace(truncated, []byte("IEND"), []byte("IENE"), 1), "checksum"},
		"a bomb":            {declared(30_000, 30_000, 8, 6), "30000 x 30000 pixels are too many"},
		"a deep bomb":       {declared(5_000, 5_000, 16, 6), "5000 x 5000 pixels are too many"},
		"a huge bomb":       {declared(1<<31-1, 1<<31-1, 1, 0), ""},
		"no pixels":         {declared(0, 10, 8, 6), ""},
		"many scans":        {many, "too many scans"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := picture.Fit(t.Context(), c.data)
			if !errors.Is(err, picture.ErrUnusable) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%d x %d, %v", f.Width, f.Height, err)
			}
		})
	}
}

// A palette costs a byte for each pixel, so more of them can be decoded.
func TestWhatDecodingCostsIsCounted(t *testing.T) {
	flat := image.NewPaletted(image.Rect(0, 0, 6_000, 6_000), palette.WebSafe)
	if f := mustFit(t, asGIF(t, flat)); f.Original != image.Pt(6_000, 6_000) {
		t.Errorf("%+v", f.Original)
	}
}

func TestWaitingForMemoryEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := picture.Fit(ctx, asPNG(t, noise(10, 10))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzFit(f *testing.F) {
	small := noise(9, 7)
	for _, data := range [][]byte{asPNG(f, small), asJPEG(f, small), asGIF(f, small), asWebP(f), declared(9, 9, 8, 6)} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fitted, err := picture.Fit(t.Context(), data)
		switch {
		case err != nil:
			if !errors.Is(err, picture.ErrUnusable) {
				t.Error(err)
			}
		case max(fitted.Width, fitted.Height) > picture.MaxSide || min(fitted.Width, fitted.Height) < 1 ||
			base64.StdEncoding.EncodedLen(len(fitted.Data)) > picture.MaxBase64 ||
			picture.Type(fitted.Data) != fitted.MediaType:
			t.Errorf("%s of %d x %d, %d bytes", fitted.MediaType, fitted.Width, fitted.Height, len(fitted.Data))
		}
	})
}
