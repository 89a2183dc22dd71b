package main

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/services/executor/journal"
)

// readEffects reads what the commands left.
func readEffects(dir string) (map[string][]string, error) {
	all := map[string][]string{}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		opened, err := os.Open(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(opened)
		for lines.Scan() {
			all[f.Name()] = append(all[f.Name()], lines.Text())
		}
		if err := errors.Join(lines.Err(), opened.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readFiles reads whole files.
func readFiles(dir string) (map[string]string, error) {
	all := map[string]string{}
	files, err := os.ReadDir(dir)
	for _, f := range files {
		b, rerr := os.ReadFile(filepath.Join(dir, f.Name()))
		err = errors.Join(err, rerr)
		all[f.Name()] = string(b)
	}
	return all, err
}

// readTimes reads files of times, in seconds since this host was started.
func readTimes(dir string) (map[string][]float64, error) {
	files, err := readFiles(dir)
	all := map[string][]float64{}
	for name, text := range files {
		for _, word := range strings.Fields(text) {
			at, perr := strconv.ParseFloat(word, 64)
			err = errors.Join(err, perr)
			all[name] = append(all[name], at)
		}
	}
	return all, err
}

// readJournal reads an executor's journal. The executor must have ended.
func readJournal(x *executor, sessions map[string]*check.Session) (out check.Journal, err error) {
	j, err := journal.Open(x.data, journal.Config{})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	out = check.Journal{Executor: x.id, Epochs: map[string]int64{}}
	for _, s := range sessions {
		if s.ParentCall == "" {
			out.Epochs[s.ID] = j.Epoch(s.ID)
		}
	}
	for k := range j.Calls(func(*journal.Call) bool { return true }) {
		out.Calls = append(out.Calls, check.JournalCall{
			ID: k.CallID, Epoch: k.Epoch,
			Finished: k.State == journal.Finished,
		})
	}
	return out, nil
}
