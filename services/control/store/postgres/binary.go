package postgres

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// arrayTypes are the ids of a type and of its arrays.
type arrayTypes struct{ element, array uint32 }

// kinds are the types that columns have, by the names that statements use.
var kinds = map[string]arrayTypes{
	"bool":        {pgtype.BoolOID, pgtype.BoolArrayOID},
	"smallint":    {pgtype.Int2OID, pgtype.Int2ArrayOID},
	"int":         {pgtype.Int4OID, pgtype.Int4ArrayOID},
	"bigint":      {pgtype.Int8OID, pgtype.Int8ArrayOID},
	"text":        {pgtype.TextOID, pgtype.TextArrayOID},
	"bytea":       {pgtype.ByteaOID, pgtype.ByteaArrayOID},
	"uuid":        {pgtype.UUIDOID, pgtype.UUIDArrayOID},
	"timestamptz": {pgtype.TimestamptzOID, pgtype.TimestamptzArrayOID},
}

// binaryArray is a parameter that encodes itself in the database's binary format of arrays.
type binaryArray interface {
	appendBinary(b []byte) ([]byte, error)
}

// registerArrays makes a connection take every binaryArray as it is.
func registerArrays(m *pgtype.Map) {
	for _, k := range kinds {
		if t, ok := m.TypeForOID(k.array); ok {
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: arrayCodec{t.Codec}})
		}
	}
}

type arrayCodec struct{ pgtype.Codec }

// PlanEncode implements pgtype.Codec.
func (c arrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(binaryArray); ok && format == pgtype.BinaryFormatCode {
		return arrayPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type arrayPlan struct{}

// Encode implements pgtype.EncodePlan.
func (arrayPlan) Encode(value any, b []byte) ([]byte, error) {
	return value.(binaryArray).appendBinary(b)
}

// appendArrayHeader begins an array of one dimension with so many elements, of which some may be NULL.
func appendArrayHeader(b []byte, element uint32, n int) []byte {
	if n == 0 {
		return appendWords(b, 0, 0, element)
	}
	return appendWords(b, 1, 1, element, uint32(n), 1)
}

func appendWords(b []byte, words ...uint32) []byte {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// null is the length of an element that is NULL.
const null = 1<<32 - 1

// appendElement appends a value behind its length.
func appendElement[T any](b []byte, element func([]byte, T) ([]byte, bool, error), v T) ([]byte, error) {
	at := len(b)
	b, there, err := element(appendWords(b, null), v)
	if there {
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b, err
}

// elementOf is how values of T become elements of a type of the database: appended to b, or false for NULL.
func elementOf[T any](kind string) func(b []byte, v T) ([]byte, bool, error) {
	var f any
	switch any(*new(T)).(type) {
	case bool:
		f = required(appendBool)
	case int16:
		f = required(func(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) })
	case *int16:
		f = nullable(func(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) })
	case int32:
		f = required(func(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) })
	case int64:
		f = required(appendInt64)
	case *int64:
		f = nullable(appendInt64)
	case []byte:
		f = func(b, v []byte) ([]byte, bool, error) { return append(b, v...), v != nil, nil }
	case time.Time:
		f = required(appendTime)
	case *time.Time:
		f = nullable(appendTime)
	case string:
		if f = required(appendText); kind == "uuid" {
			f = appendUUID
		}
	case *string:
		if f = nullable(appendText); kind == "uuid" {
			f = func(b []byte, v *string) ([]byte, bool, error) {
				if v == nil {
					return b, false, nil
				}
				return appendUUID(b, *v)
			}
		}
	default:
		panic(fmt.Sprintf("no column has values of type %T", *new(T)))
	}
	return f.(func([]byte, T) ([]byte, bool, error))
}

func required[T any](f func([]byte, T) []byte) func([]byte, T) ([]byte, bool, error) {
	return func(b []byte, v T) ([]byte, bool, error) { return f(b, v), true, nil }
}

func nullable[T any](f func([]byte, T) []byte) func([]byte, *T) ([]byte, bool, error) {
	return func(b []byte, v *T) ([]byte, bool, error) {
		if v == nil {
			return b, false, nil
		}
		return f(b, *v), true, nil
	}
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

func appendText(b []byte, v string) []byte { return append(b, v...) }

// appendTime appends microseconds since the beginning of 2000, as which the database keeps times.
func appendTime(b []byte, t time.Time) []byte { return appendInt64(b, t.UnixMicro()-epoch2000) }

// epoch2000 is 2000-01-01 in microseconds of Unix time.
const epoch2000 = 946_684_800_000_000

func appendUUID(b []byte, v string) ([]byte, bool, error) {
	id, err := uuid.Parse(v)
	return append(b, id[:]...), true, err
}
