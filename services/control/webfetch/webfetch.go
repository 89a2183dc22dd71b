// Package webfetch is the tool web_fetch: control reads a page of an allowed host for an agent and shows it as text.
//
//	url ──▶ allowlist ──▶ package egress ──▶ charset ──▶ HTML to text ──▶ a window of it, from offset
//
// The hosts are the operator's choice, by default none, see control's flag --web-fetch-host. A redirect is followed
// only within the allowlist. No cookie, credential or header of anybody is sent. What a page says is data: it is shown
// to the model as the result of a call.
package webfetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/html/charset"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Name of the tool.
const Name = "web_fetch"

// Bounds of one request.
const (
	timeout  = 30 * time.Second
	maxPage  = 10 << 20 // bytes of a body, after decompression; the rest of a longer page is left out
	maxImage = 5 << 20
	maxURL   = 8 << 10
	// Of pages with more than small bytes only so many are read at once: what is made of one takes several times as
	// much memory as it has bytes.
	small     = 1 << 20
	maxLarge  = 8
	userAgent = "Pawl (web_fetch)"
)

// Failures.
var (
	errURL     = errs.New(errs.InvalidArgument, "WEB_FETCH_URL", "the URL cannot be fetched")
	errFetch   = errs.New(errs.Unavailable, "WEB_FETCH_FAILED", "the page could not be fetched")
	errContent = errs.New(errs.FailedPrecondition, "WEB_FETCH_CONTENT", "the content cannot be shown")
	errBusy    = errs.New(errs.ResourceExhausted, "WEB_FETCH_BUSY", "too many large pages are read at this time: try "+
		"again later")
)

// Request is what a call asks for.
type Request struct {
	URL    string `json:"url"`
	Offset int    `json:"offset"` // first byte of the page's text that is shown
}

// Page is a window of a page's text, or an image.
type Page struct {
	URL       string // where the page was found, after redirects
	Status    int
	MediaType string
	Title     string
	Text      string // the window
	Offset    int    // of the window in the whole text
	Total     int    // bytes of the whole text
	Short     bool   // the page is longer than the text that was taken from it
	Image     []byte
}

// Clean implements tool.Reply.
func (p Page) Clean(c tool.Cleaner) tool.Reply {
	p.URL, p.Title, p.Text = c.Text(p.URL), c.Text(p.Title), c.Text(p.Text)
	return p
}

var schema = json.RawMessage(`{
  "type": "object",
  "properties": {
    "url": {"type": "string", "minLength": 1, "description": "The http or https URL of the page."},
    "offset": {"type": "integer", "minimum": 0,
      "description": "Where to go on in a long page: the number that the end of the last result names."}
  },
  "required": ["url"],
  "additionalProperties": false
}`)

// New is the tool for an allowlist of hosts. client is used with its Redirect and MaxBody replaced.
func New(hosts egress.Hosts, client egress.Client) *tool.Tool {
	f := newFetcher(hosts, client)
	t, err := tool.Define(tool.Spec{
		Name: Name, Source: "web_fetch", Schema: schema, Safety: tool.Idempotent, Subject: "url",
		Description: "Read a page of the web: HTML as text with its links, other text as it is, images as images. " +
			hosts.String(),
		How: tool.ByControl(f.run, render),
		Habits: tool.Habits{Names: map[string]string{
			"link": "url", "uri": "url", "href": "url", "address": "url", "page": "url", "start": "offset",
			"startindex": "offset",
		}},
	})
	if err != nil {
		panic(err) // the spec is a constant: any test finds this
	}
	return t
}

type fetcher struct {
	hosts  egress.Hosts
	client *http.Client
	large  chan struct{} // a place for each page that is not small
}

func newFetcher(hosts egress.Hosts, client egress.Client) fetcher {
	client.MaxBody = maxPage
	client.Redirect = func(_, to *url.URL) error { return hosts.Check(to) }
	return fetcher{hosts, client.HTTP(), make(chan struct{}, maxLarge)}
}

func (f fetcher) run(ctx context.Context, c tool.Call) (tool.Reply, error) {
	r := c.Request.(Request)
	u, err := url.Parse(strings.TrimSpace(r.URL))
	if err != nil || u.Host == "" || len(r.URL) > maxURL {
		return nil, errURL.With("%s is not an absolute http or https URL of at most %d bytes",
			clip.Display(clip.Shorten(r.URL, 200)), maxURL)
	}
	if err := f.hosts.Check(u); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	page, err := f.get(ctx, u)
	if err != nil {
		return nil, failed(u, err)
	}
	return page.window(r.Offset)
}

// failed is what the model hears of a request that failed: refusals as they are, what the network says in short.
func failed(u *url.URL, err error) error {
	var e *errs.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return errFetch.With("%s did not answer within %s", u.Host, timeout)
	}
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err
	}
	return errFetch.With("%s could not be fetched: %s", u.Host, clip.Shorten(clip.Sanitize(err.Error()), 300))
}

func (f fetcher) get(ctx context.Context, u *url.URL) (Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Page{}, err
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "text/html, application/xhtml+xml, text/markdown, text/plain, application/json, "+
		"image/png, image/jpeg, image/gif, image/webp, */*;q=0.1")
	res, err := f.client.Do(req)
	if err != nil {
		return Page{}, err
	}
	defer func() { _ = res.Body.Close() }()
	p := Page{URL: res.Request.URL.Redacted(), Status: res.StatusCode}
	if p.MediaType, _, err = mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil {
		p.MediaType = "application/octet-stream"
	}
	if coding := res.Header.Get("Content-Encoding"); coding != "" {
		return Page{}, errContent.With("%s has the encoding %q, which was not asked for", u.Host,
			clip.Shorten(coding, 50))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, small))
	if err == nil && len(body) == small {
		leave, busy := f.room(ctx)
		if busy != nil {
			return Page{}, busy
		}
		defer leave()
		var rest []byte
		rest, err = io.ReadAll(res.Body)
		body = append(body, rest...)
	}
	switch {
	case errors.Is(err, egress.ErrTooLarge):
		p.Short = true
	case err != nil:
		return Page{}, err
	}
	return p.read(body, res.Header.Get("Content-Type"))
}

// room waits until one more large page may be read.
func (f fetcher) room(ctx context.Context) (leave func(), err error) {
	select {
	case f.large <- struct{}{}:
		return func() { <-f.large }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

// read makes of a body what can be shown of it.
func (p Page) read(body []byte, contentType string) (Page, error) {
	if picture.Type(body) != "" {
		if len(body) > maxImage || p.Short {
			return p, errContent.With("the image has more than %d bytes", maxImage)
		}
		p.MediaType, p.Image = picture.Type(body), body
		return p, nil
	}
	if !textual(p.MediaType, body) {
		return p, errContent.With("%s has %d bytes of the type %s, which is not text", p.URL, len(body), p.MediaType)
	}
	r, err := charset.NewReader(strings.NewReader(string(body)), contentType)
	if err != nil {
		return p, err
	}
	decoded, err := io.ReadAll(r)
	if err != nil {
		return p, err
	}
	p.Text = string(decoded)
	if isHTML(p.MediaType, body) {
		base, err := url.Parse(p.URL)
		if err != nil {
			return p, err
		}
		var short bool
		p.Title, p.Text, short = readable(p.Text, base)
		p.Short = p.Short || short
	}
	p.Text = strings.TrimSpace(clip.Sanitize(strings.ReplaceAll(p.Text, "\r\n", "\n")))
	p.Total = len(p.Text)
	return p, nil
}

// isHTML reports whether a page is to be read as HTML.
func isHTML(mediaType string, body []byte) bool {
	return mediaType == "text/html" || mediaType == "application/xhtml+xml" ||
		mediaType == "application/octet-stream" && strings.HasPrefix(http.DetectContentType(body), "text/html")
}

// textual reports whether a page is text of any kind.
func textual(mediaType string, body []byte) bool {
	switch kind, sub, _ := strings.Cut(mediaType, "/"); {
	case kind == "text", sub == "json", sub == "xml", sub == "javascript", sub == "yaml", sub == "x-yaml",
		sub == "toml", sub == "sql", sub == "x-sh", sub == "x-ndjson", sub == "graphql",
		strings.HasSuffix(sub, "+json"), strings.HasSuffix(sub, "+xml"), strings.HasSuffix(sub, "+yaml"):
		return true
	}
	return mediaType == "application/octet-stream" && strings.HasPrefix(http.DetectContentType(body), "text/")
}

// window is the page with the text that is shown from an offset on.
func (p Page) window(offset int) (Page, error) {
	if offset > p.Total || offset > 0 && offset == p.Total {
		return p, errURL.With("offset %d is beyond the end of the page, whose text has %d bytes", offset, p.Total)
	}
	p.Offset = clip.Floor(p.Text, offset)
	p.Text, _ = clip.Head(p.Text[p.Offset:], tool.MaxLines, tool.MaxText)
	return p, nil
}

func render(req Request, p Page) tool.Result {
	var head strings.Builder
	head.WriteString(clip.Display(p.URL))
	if p.Status/100 != 2 {
		fmt.Fprintf(&head, " answered with status %d %s", p.Status, http.StatusText(p.Status))
	}
	if p.Title != "" {
		head.WriteString("\n" + clip.Display(clip.Shorten(p.Title, 300)))
	}
	details := tool.Fields{"url": clip.Sanitize(req.URL), "status": p.Status, "mediaType": p.MediaType}
	res := tool.Result{IsError: p.Status/100 != 2}
	if len(p.Image) > 0 {
		res.Text = fmt.Sprintf("%s\n\nThe image has %d bytes (%s).", head.String(), len(p.Image), p.MediaType)
		res.Images = []model.Image{{MediaType: p.MediaType, Data: p.Image}}
		res.Details = details.Encode()
		return res
	}
	text := clip.Sanitize(p.Text)
	if text == "" {
		text = "(no text)"
	}
	details["bytes"] = p.Total
	res.Text = head.String() + "\n\n" + text
	switch next := p.Offset + len(p.Text); {
	case next < p.Total:
		res.Text += fmt.Sprintf("\n\n[Showing bytes %d-%d of %d. Use offset=%d to continue.]", p.Offset, next, p.Total,
			next)
	case p.Short:
		res.Text += fmt.Sprintf("\n\n[The page is longer than %d bytes; the rest of it was not read.]", maxPage)
	}
	res.Details = details.Encode()
	return res
}
