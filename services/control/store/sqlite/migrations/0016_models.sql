-- +goose Up

-- A turn may have several model calls. There is no index of turns that would forbid it here.
SELECT 1;

-- +goose Down
SELECT 1;
