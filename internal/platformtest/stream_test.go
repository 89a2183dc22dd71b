package platformtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// patience bounds a test on real time.
const patience = 2 * time.Minute

// seen is an event as a reader got it.
type seen struct {
	seq     int64
	content string
}

// String tells what is short of it.
func (s seen) String() string {
	e := &pawlv1.Event{}
	if err := proto.Unmarshal([]byte(s.content), e); err != nil {
		return err.Error()
	}
	text := protojson.Format(e)
	return text[:min(len(text), 300)] + " … " + text[max(0, len(text)-400):]
}

func see(e *pawlv1.Event) (seen, error) {
	if e.GetText() != nil || e.GetThinking() != nil { // server-sent events leave a delta's time out
		e.Time = nil
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	return seen{e.GetSeq(), string(b)}, err
}

// read watches a session over gRPC from a cursor until take returns false.
func read(
	ctx context.Context, p *platformtest.Platform, session string, after int64, take func(*pawlv1.Event) (more bool),
) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	watch, err := pawlv1.NewSessionServiceClient(p.GRPC).WatchSession(ctx,
		&pawlv1.WatchSessionRequest{SessionId: session, After: after})
	if err != nil {
		return err
	}
	for {
		m, err := watch.Recv()
		if err != nil {
			return err
		}
		for _, e := range m.GetEvents() {
			if !take(e) {
				return nil
			}
		}
	}
}

// readSSE is read over server-sent events.
func readSSE(
	ctx context.Context, p *platformtest.Platform, session string, after int64, take func(*pawlv1.Event) (more bool),
) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	res, err := openSSE(ctx, p, session, strconv.FormatInt(after, 10))
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // it is left in the middle
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 8<<20)
	id := ""
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			id = text
		}
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		e := &pawlv1.Event{}
		if err := protojson.Unmarshal([]byte(text), e); err != nil {
			return err
		}
		seq, err := strconv.ParseInt(id, 10, 64)
		if err != nil || e.GetSeq() != seq && e.GetSeq() != 0 { // a delta leaves it out
			return fmt.Errorf("event %d has the id %q", e.GetSeq(), id)
		}
		e.Seq = seq
		if !take(e) {
			return nil
		}
	}
	return errors.Join(lines.Err(), io.ErrUnexpectedEOF)
}

func openSSE(ctx context.Context, p *platformtest.Platform, session, cursor string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/sessions/"+session+"/events", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.Token)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", cursor)
	return p.HTTP.Do(req)
}

// prompts are admitted to one session one after the other, each when the one before it has settled. They have long
// answers, thoughts and results, so that there are deltas.
const prompts = 8

func prompt(n int) string {
	return fmt.Sprintf("think: %s\nsay: %s\ntool nothing: {}\nsay: done %d", strings.Repeat("hm ", 5700),
		strings.Repeat(fmt.Sprint("word", n, " "), 2700), n)
}

// reader reads the whole stream: at any replica, over either protocol, leaving and coming back as the dice say.
func reader(
	ctx context.Context, dice *rand.Rand, planes []*platformtest.Platform, session string,
) (all []seen, err error) {
	for settled := 0; settled < prompts; {
		after := int64(0)
		if len(all) > 0 {
			after = all[len(all)-1].seq
		}
		left := 1 + dice.IntN(20)
		how := read
		if dice.IntN(2) == 0 {
			how = readSSE
		}
		var bad error
		err := how(ctx, planes[dice.IntN(len(planes))], session, after, func(e *pawlv1.Event) bool {
			one, err := see(e)
			bad = errors.Join(bad, err)
			all = append(all, one)
			if e.GetSettled() != nil {
				settled++
			}
			left--
			return left > 0 && settled < prompts
		})
		if err := errors.Join(err, bad); err != nil {
			return all, err
		}
	}
	return all, nil
}

// Twenty readers that leave and come back at random, at any replica, over gRPC and server-sent events, see exactly what
// a reader sees who stayed: a sequence without a gap.
func TestReadersThatLeaveSeeTheSame(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) []*platformtest.Platform{
		"two replicas on Postgres": func(t *testing.T) (planes []*platformtest.Platform) {
			url := pgtest.URL(t)
			for range 2 {
				db, err := postgres.Open(t.Context(), url, postgres.Options{})
				if err != nil {
					t.Fatal(err)
				}
				planes = append(planes, platformtest.StartOn(t, db))
			}
			return planes
		},
		"SQLite": func(t *testing.T) []*platformtest.Platform {
			db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "pawl.db"), sqlite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return []*platformtest.Platform{platformtest.StartOn(t, db)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			planes := open(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			key := &pawlv1.SessionKey{Agent: "shell", Instance: "i"}
			client := pawlv1.NewSubmissionServiceClient(planes[0].GRPC)
			first, err := client.Submit(ctx, &pawlv1.SubmitRequest{Key: key, Message: prompt(0)})
			if err != nil {
				t.Fatal(err)
			}
			session := first.GetSubmission().GetSessionId()
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error {
				id := first.GetSubmission().GetSubmissionId()
				for n := 1; ; n++ {
					if _, err := client.WaitSubmission(ctx,
						&pawlv1.WaitSubmissionRequest{SubmissionId: id}); err != nil || n == prompts {
						return err
					}
					next, err := client.Submit(ctx, &pawlv1.SubmitRequest{Key: key, Message: prompt(n)})
					if err != nil {
						return err
					}
					id = next.GetSubmission().GetSubmissionId()
				}
			})
			var stayed []seen
			g.Go(func() error {
				settled := 0
				var bad error
				err := read(ctx, planes[len(planes)-1], session, 0, func(e *pawlv1.Event) bool {
					one, err := see(e)
					bad = errors.Join(bad, err)
					stayed = append(stayed, one)
					if e.GetSettled() != nil {
						settled++
					}
					return settled < prompts
				})
				return errors.Join(err, bad)
			})
			got := make([][]seen, 20)
			for i := range got {
				g.Go(func() (err error) {
					got[i], err = reader(ctx, rand.New(rand.NewPCG(1, uint64(i))), planes, session)
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if len(stayed) < 6*prompts {
				t.Errorf("%d events: too few to have had deltas", len(stayed))
			}
			for i, one := range stayed {
				if one.seq != int64(i)+1 {
					t.Fatalf("event %d has seq %d", i+1, one.seq)
				}
			}
			for i, all := range got {
				if len(all) != len(stayed) {
					t.Errorf("reader %d saw %d events, want %d", i, len(all), len(stayed))
				}
				for n := range min(len(all), len(stayed)) {
					if all[n] != stayed[n] {
						t.Errorf("reader %d: event %d differs from what the one who stayed saw:\n%s\n%s", i, n, all[n],
							stayed[n])
						break
					}
				}
			}
		})
	}
}

// A cursor below what retention kept is refused, and the answer says where to go on.
func TestCursorBelowRetentionIsRefused(t *testing.T) {
	db, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := platformtest.StartOn(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := pawlv1.NewSubmissionServiceClient(p.GRPC)
	req := &pawlv1.PromptRequest{
		Key: &pawlv1.SessionKey{Agent: "shell", Instance: "i"}, Message: "say: old news",
		IdempotencyKey: "k",
	}
	latest := int64(0) // seq of the last event that settled has seen
	settled := func() *pawlv1.Submission {
		t.Helper()
		stream, err := client.Prompt(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		var last *pawlv1.Event
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return last.GetSettled().GetSubmission()
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.GetEvents() {
				last, latest = e, e.GetSeq()
			}
		}
	}
	before := settled()
	session, head := before.GetSessionId(), latest
	if b, err := db.DeleteBatch(ctx, retention.Events, -time.Hour, 100); err != nil || b.Deleted == 0 {
		t.Fatalf("%d segments expired: %v", b.Deleted, err)
	}

	err = read(ctx, p, session, 1, func(*pawlv1.Event) bool { return true })
	refusal, ok := errs.Public(rpc.FromStatus(err))
	if !ok || refusal.Reason() != "CURSOR_TOO_OLD" || !strings.Contains(refusal.Error(), "entries") {
		t.Fatalf("over gRPC: %v", err)
	}
	if facts := refusal.Facts(); facts["continue_from"] != strconv.FormatInt(head, 10) ||
		facts["oldest"] != strconv.FormatInt(head+1, 10) {
		t.Errorf("told %v", facts)
	}
	res, err := openSSE(ctx, p, session, "1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"event: cursor_too_old\n", fmt.Sprintf("\nid: %d\n", head), `"reason":"CURSOR_TOO_OLD"`,
		fmt.Sprintf(`"continue_from":"%d"`, head), fmt.Sprintf(`"oldest":"%d"`, head+1),
	} {
		if res.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("over HTTP: %d %s lacks %s", res.StatusCode, body, want)
		}
	}
	// A replay of what settled long ago is still answered.
	if again := settled(); again.GetSubmissionId() != before.GetSubmissionId() ||
		again.GetResult().GetText() != "old news" {
		t.Errorf("the replay ended with %v", again)
	}
	// And whoever goes on from where it was told gets what comes next.
	req.IdempotencyKey, req.Message = "", "say: fresh"
	for _, how := range []func(context.Context, *platformtest.Platform, string, int64,
		func(*pawlv1.Event) bool) error{read, readSSE} {
		next := make(chan *pawlv1.Event, 1)
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error {
			return how(ctx, p, session, head, func(e *pawlv1.Event) bool { next <- e; return false })
		})
		settled()
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if e := <-next; e.GetSeq() != head+1 || e.GetStarted() == nil {
			t.Errorf("after %d comes %v", head, e)
		}
	}
}
