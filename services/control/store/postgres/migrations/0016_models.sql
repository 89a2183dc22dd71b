-- +goose Up

-- A turn may have several model calls: one that another model goes on for, one whose context was too long, a summary.
ALTER TABLE turns DROP CONSTRAINT turns_pkey;
CREATE INDEX turns_of ON turns (submission_id, turn);

-- +goose Down
DELETE FROM turns t USING turns u WHERE t.submission_id = u.submission_id AND t.turn = u.turn AND t.ctid < u.ctid;
DROP INDEX turns_of;
ALTER TABLE turns ADD PRIMARY KEY (submission_id, turn);
