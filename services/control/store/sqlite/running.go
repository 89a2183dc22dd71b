package sqlite

import "fmt"

// watchRunning keeps an index of the lanes that run, in the memory of the writer's connection. An index in the file
// would be written by each claim and each settlement, and there is one process that reads it. Triggers keep it true
// within each transaction.
var watchRunning = []statement{
	sql(`CREATE TEMP TABLE running (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, force_after INTEGER NOT NULL)`),
	sql(`CREATE INDEX temp.running_owner ON running (owner)`),
	sql(`CREATE INDEX temp.running_force ON running (force_after) WHERE force_after > 0`),
	sql(`INSERT INTO running SELECT rowid, owner, force_after FROM main.lanes WHERE state = 2`),
	sql(`CREATE TEMP TRIGGER running_made AFTER INSERT ON main.lanes WHEN new.state = 2 BEGIN
		INSERT INTO running VALUES (new.rowid, new.owner, new.force_after); END`),
	sql(`CREATE TEMP TRIGGER running_moved AFTER UPDATE OF state, owner, force_after ON main.lanes
		WHEN (old.state = 2 OR new.state = 2)
		AND (old.state, old.owner, old.force_after) IS NOT (new.state, new.owner, new.force_after) BEGIN
		DELETE FROM running WHERE id = old.rowid;
		INSERT INTO running SELECT new.rowid, new.owner, new.force_after WHERE new.state = 2; END`),
	sql(`CREATE TEMP TRIGGER running_gone AFTER DELETE ON main.lanes BEGIN
		DELETE FROM running WHERE id = old.rowid; END`),
}

func (c *conn) watchRunning() error {
	for _, q := range watchRunning {
		if _, err := c.exec(q); err != nil {
			return fmt.Errorf("indexing the lanes that run: %w", err)
		}
	}
	return nil
}
