-- +goose Up

-- The last summary of a conversation, from which on it is read. Only summaries write it.
CREATE INDEX entries_summaries ON entries (session_id, seq) WHERE kind = 'summary';

-- What a model call was for: '' an answer, 'summary'.
ALTER TABLE turns ADD COLUMN purpose TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE turns DROP COLUMN purpose;
DROP INDEX entries_summaries;
