package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// result is what a run writes as JSON, and what a later run is put beside.
type result struct {
	Run  Machine `json:"run"`
	Rows []Row   `json:"rows"`
}

// readResult reads what an earlier run has written.
func readResult(file string) (*result, error) {
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("%s was not written by bench -json: %w", file, err)
	}
	if len(r.Rows) == 0 {
		return nil, fmt.Errorf("%s has no rows", file)
	}
	return &r, nil
}

// names are what rows are known by in every run: the database and, for a row that goes on with what is above it
// ("…"),
// that row.
func names(rows []Row) []string {
	all, head := make([]string, len(rows)), ""
	for i, r := range rows {
		name := r.What
		if strings.HasPrefix(name, "…") {
			name = head + " " + name
		} else {
			head = name
		}
		all[i] = r.Database + ": " + name
	}
	return all
}

// speed is what a row is compared by: its rate, if it has one, else its p50.
func (r Row) speed() Quantity {
	if r.Rate.Unit != "" {
		return r.Rate
	}
	return r.P50
}

// compare gives each row's cells in the columns "before" and "now/before". They are empty for rows that the earlier run
// did not have.
func (r *result) compare(rows []Row) (cells [][2]string) {
	earlier := map[string]Row{}
	for i, name := range names(r.Rows) {
		earlier[name] = r.Rows[i]
	}
	for i, name := range names(rows) {
		old, now := earlier[name].speed(), rows[i].speed()
		pair := [2]string{old.String(), ""}
		if old.Value != 0 && old.Unit == now.Unit {
			pair[1] = digits(now.Value/old.Value) + "×"
		}
		cells = append(cells, pair)
	}
	return cells
}

// title says what the columns of an earlier run are.
func (r *result) title() string {
	return fmt.Sprintf("**before** is commit %s, %s: the rate of a row that has one, else its p50.\n"+
		"**now/before** is this run's over that.", r.Run.Commit, r.Run.Date)
}
