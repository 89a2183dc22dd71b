package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
)

// guarded decodes. The bytes come from anywhere: a fault of a decoder must cost this image and not the process.
func guarded[T any](decode func(io.Reader) (T, error), data []byte) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be decoded: %v", p)
		}
	}()
	return decode(bytes.NewReader(data))
}

// bytesPerPixel is what a decoder needs for the pixels of such an image.
func bytesPerPixel(c image.Config) int64 {
	if _, palette := c.ColorModel.(color.Palette); palette {
		return 1
	}
	switch c.ColorModel {
	case color.GrayModel:
		return 1
	case color.Gray16Model:
		return 2
	case color.YCbCrModel:
		return 3
	case color.RGBA64Model, color.NRGBA64Model:
		return 8
	}
	return 4
}

// onWhite is m without transparency, which JPEG does not have.
func onWhite(m *image.RGBA) image.Image {
	if m.Opaque() {
		return m
	}
	flat := image.NewRGBA(m.Bounds())
	draw.Draw(flat, flat.Bounds(), image.White, image.Point{}, draw.Src)
	draw.Draw(flat, flat.Bounds(), m, m.Bounds().Min, draw.Over)
	return flat
}

// shrink is a copy of src with the given size, which is not larger. Every pixel is the mean of those that it covers. It
// needs no memory beside the copy: the kernels of golang.org/x/image/draw keep 32 bytes for each pixel of an image that
// is scaled in one direction.
func shrink(src image.Image, to image.Point) *image.RGBA {
	from := src.Bounds()
	dst := image.NewRGBA(image.Rectangle{Max: to})
	line := image.NewRGBA(image.Rect(0, 0, from.Dx(), 1))
	across := make([]uint64, 4*to.X) // the line, scaled; in units of 1/from.Dx()
	down := make([]uint64, 4*to.X)   // the row of dst at hand; in units of 1/(from.Dx()*from.Dy())
	whole := uint64(from.Dx()) * uint64(from.Dy())
	row := 0
	for y := range from.Dy() {
		draw.Draw(line, line.Rect, src, image.Pt(from.Min.X, from.Min.Y+y), draw.Src)
		shrinkLine(across, line.Pix, from.Dx(), to.X)
		here, next, complete := split(y, from.Dy(), row, to.Y)
		for i, v := range across {
			down[i] += v * here
		}
		if !complete {
			continue
		}
		for i, v := range down {
			dst.Pix[row*dst.Stride+i] = uint8((v + whole/2) / whole)
			down[i] = across[i] * next
		}
		row++
	}
	return dst
}

// shrinkLine scales a line of n pixels to m. Sums are in units of 1/n.
func shrinkLine(sums []uint64, line []uint8, n, m int) {
	clear(sums)
	at := 0
	for x := range n {
		here, next, complete := split(x, n, at, m)
		add(sums[4*at:], line[4*x:4*x+4], here)
		if complete {
			at++
		}
		if next > 0 {
			add(sums[4*at:], line[4*x:4*x+4], next)
		}
	}
}

// split is how much of pixel i of n belongs to pixel at of m, the first that it overlaps, and how much to the next, in
// units of 1/n of the larger pixel. That one is complete when nothing behind i belongs to it. m is at most n.
func split(i, n, at, m int) (here, next uint64, complete bool) {
	begin, end, edge := i*m, (i+1)*m, (at+1)*n
	if end < edge {
		return uint64(m), 0, false
	}
	return uint64(edge - begin), uint64(end - edge), true
}

func add(to []uint64, pixel []uint8, weight uint64) {
	for i, v := range pixel {
		to[i] += uint64(v) * weight
	}
}
