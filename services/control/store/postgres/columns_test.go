package postgres

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	records "github.com/pawl-dev/pawl/services/control/step"
)

// everything has a value of every type that a column can have.
type everything struct {
	flag         bool
	small        int16
	smallOrNull  *int16
	medium       int32
	large        int64
	largeOrNull  *int64
	text         string
	textOrNull   *string
	body         []byte
	id           string
	idOrNull     *string
	moment       time.Time
	momentOrNull *time.Time
}

var everyType = table[everything]{
	col("flag", "bool", func(r *everything) bool { return r.flag }),
	col("small", "smallint", func(r *everything) int16 { return r.small }),
	col("small_or_null", "smallint", func(r *everything) *int16 { return r.smallOrNull }),
	col("medium", "int", func(r *everything) int32 { return r.medium }),
	col("large", "bigint", func(r *everything) int64 { return r.large }),
	col("large_or_null", "bigint", func(r *everything) *int64 { return r.largeOrNull }),
	col("text", "text", func(r *everything) string { return r.text }),
	col("text_or_null", "text", func(r *everything) *string { return r.textOrNull }),
	col("body", "bytea", func(r *everything) []byte { return r.body }),
	col("id", "uuid", func(r *everything) string { return r.id }),
	col("id_or_null", "uuid", func(r *everything) *string { return r.idOrNull }),
	col("moment", "timestamptz", func(r *everything) time.Time { return r.moment }),
	col("moment_or_null", "timestamptz", func(r *everything) *time.Time { return r.momentOrNull }),
}

// TestRowsReachTheDatabaseAsTheyAre sends rows as a statement's parameters, in the database's binary format and, where
// the protocol has no parameters, as text.
func TestRowsReachTheDatabaseAsTheyAre(t *testing.T) {
	small, large, text, id := int16(-7), int64(-1)<<62, `"a, {b}" \ ü`, ident.New()
	moment := time.Date(1999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	rows := []everything{
		{id: ident.New(), body: []byte{}, moment: time.Date(2026, 11, 30, 12, 0, 0, 1000, time.UTC)},
		{
			flag: true, small: -1, smallOrNull: &small, medium: -1 << 31, large: 1<<63 - 1, largeOrNull: &large,
			text: "", textOrNull: &text, body: []byte{0, '\\', 0xff}, id: id, idOrNull: &id, moment: moment,
			momentOrNull: &moment,
		},
		{id: ident.New(), moment: moment}, // its body is NULL
	}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			conn := connection(t, mode)
			for _, want := range [][]everything{rows, nil} {
				if got := roundTrip(t, conn, want); !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			}
			_, err := conn.Exec(t.Context(), everyType.in(`SELECT FROM {rows}`, 0),
				everyType.args([]everything{{id: "no id"}})...)
			if err == nil {
				t.Error("what is no id was taken for one")
			}
		})
	}
}

func connection(t *testing.T, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	config, err := configure(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DefaultQueryExecMode = mode
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := config.AfterConnect(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// roundTrip is what the database makes of rows.
func roundTrip(t *testing.T, conn *pgx.Conn, sent []everything) (got []everything) {
	t.Helper()
	found, err := conn.Query(t.Context(), everyType.in(`SELECT t.* FROM {rows}`, 0), everyType.args(sent)...)
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		var r everything
		if err := found.Scan(&r.flag, &r.small, &r.smallOrNull, &r.medium, &r.large, &r.largeOrNull, &r.text,
			&r.textOrNull, &r.body, &r.id, &r.idOrNull, &r.moment, &r.momentOrNull); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestACommitSendsWhatHasSomethingToWrite counts statements: each costs the database and the owner of the lane.
func TestACommitSendsWhatHasSomethingToWrite(t *testing.T) {
	answer := func(turn int) lane.Step {
		return lane.Step{
			LoopID: ident.New(), SessionID: ident.New(), EntryHead: 1,
			Entries: []session.Entry{{Seq: 2, Kind: session.Assistant}}, Events: []event.Event{{Seq: 1}},
			Turn: &lane.Turn{Turn: turn}, End: &lane.Settlement{Outcome: lane.Completed},
		}
	}
	events := lane.Step{LoopID: ident.New(), SessionID: ident.New(), Events: []event.Event{{Seq: 1}}}
	ended := events
	ended.Records = []records.Record{{Ord: 1, State: records.Completed}}
	for name, c := range map[string]struct {
		step lane.Step
		want int
	}{
		"events": {events, 2},
		"an answer that nothing was asked before": {answer(1), 4},
		"an answer that may end sub-agents":       {answer(2), 5},
		"the end of a step of a run":              {ended, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := prepare(lane.Commit{
				Fence: lane.Fence{LaneID: ident.New()}, ID: ident.New(), Steps: []lane.Step{c.step},
			})
			if err != nil {
				t.Fatal(err)
			}
			var rows commitRows
			rows.add(0, &p)
			batch := &pgx.Batch{}
			rows.queue(batch, ident.New(), time.Time{}, nil)
			if batch.Len() != c.want {
				t.Errorf("%d statements, want %d", batch.Len(), c.want)
			}
		})
	}
}
