package runner

import (
	"encoding/json"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/turn"
)

const (
	// mostRecords and mostBytes bound one commit of records: a list of many steps that take no time ends at once.
	mostRecords = 500
	mostBytes   = 8 << 20
)

// advance commits what the machine wants, together with a step, and has it done. on is the strand that commits. The
// mutex is held. An error is that of the strand's work: the machine is ahead of the rows then, and is not used again.
func (a *attempt) advance(on *turn.Strand, s lane.Step) error {
	return a.advanceWith(on, s, nil)
}

// advanceWith is advance that begins with effects which were taken from the machine before.
func (a *attempt) advanceWith(on *turn.Strand, s lane.Step, effects []drive.Effect) (err error) {
	if a.ahead != nil {
		return a.ahead
	}
	defer func() { a.ahead = err }()
	effects = append(effects, a.machine.Next()...)
	for first := true; first || len(effects) > 0; first, effects = false, a.machine.Next() {
		if err := a.write(on, s, effects); err != nil {
			return err
		}
		s = lane.Step{}
		if a.settled {
			break
		}
		for _, e := range effects {
			if err := a.carryOut(e); err != nil {
				return err
			}
		}
	}
	if on != a.root.Strand {
		a.root.Nudge() // times have changed, what it waits for, or the run has ended
	}
	return nil
}

// write commits the records and lines among effects, in their order, and what a step says.
func (a *attempt) write(on *turn.Strand, s lane.Step, effects []drive.Effect) error {
	var records []step.Record // of which times are to be known
	size := 0
	flush := func(last bool) error {
		if !last && len(s.Records) < mostRecords && size < mostBytes {
			return nil
		}
		if last && a.end != nil && !a.end.cut() {
			a.settle(&s, *a.end, nil)
		}
		if len(s.Events) == 0 {
			return nil // what has no event has nothing else
		}
		if !a.opened {
			s.Events = append([]event.Event{a.begins()}, s.Events...)
			s.Progress = a.progress()
		}
		err := on.Commit(s, lane.With{})
		a.settled = err == nil && s.End != nil
		s, size, a.opened = lane.Step{}, 0, true
		return err
	}
	for _, e := range effects {
		switch e := e.(type) {
		case drive.Record:
			s.Records = append(s.Records, e.Record)
			s.Events = append(s.Events, a.event(event.StepOf(e.Record, nil)))
			records, size = append(records, e.Record), size+len(e.Output)
		case drive.Say:
			s.Events = append(s.Events, a.event(a.line(e)))
		case drive.End: // the last one
			a.end = a.endOf(e)
		case drive.Do, drive.Cancel:
		}
		if err := flush(false); err != nil {
			return err
		}
	}
	if err := flush(true); err != nil {
		return err
	}
	for i := range records {
		if a.settled {
			break
		}
		if err := a.clock(&records[i]); err != nil {
			return err
		}
	}
	return nil
}

// line is an event of a line of the run's log.
func (a *attempt) line(e drive.Say) event.Event {
	var data json.RawMessage
	if e.Data != nil {
		data, _ = json.Marshal(e.Data) // nil if it is none: values of expressions are JSON
	}
	return event.LogOf(e.Ord, e.Path, string(e.Level), e.Text, data)
}

// clock notes when something of a step is due whose record was committed.
func (a *attempt) clock(r *step.Record) error {
	delete(a.times, r.Path)
	switch {
	case r.State.Ended():
	case !r.At.IsZero(): // how long that is only the platform's clock knows
		page, err := a.Store.OpenSteps(a.ctx, a.run.ID, r.Ord-1, 1)
		if err != nil {
			return err
		}
		if len(page) > 0 && page[0].Ord == r.Ord {
			a.times[r.Path] = time.Now().Add(page[0].Left)
		}
	case r.Wait != step.Never:
		a.times[r.Path] = time.Now().Add(r.Wait)
	}
	return nil
}

// carryOut does what may be done because of records that are committed.
func (a *attempt) carryOut(e drive.Effect) error {
	switch e := e.(type) {
	case drive.Do:
		w, failed, err := a.take(e)
		switch {
		case err != nil:
			return err
		case failed != nil:
			a.machine.Ended(e.Path, *failed)
		case w != nil:
			a.Add(w.Strand)
			a.Go(w.job())
		}
	case drive.Cancel:
		if w := a.works[e.Path]; w != nil {
			w.cancel()
		} else if w := a.waits[e.Path]; w != nil {
			w.cancelled = time.Now()
		}
	case drive.Record, drive.Say, drive.End:
	}
	return nil
}

// endOf is what the end of the machine makes of the run.
func (a *attempt) endOf(e drive.End) *ended {
	end := &ended{outcome: lane.Completed}
	if e.State == step.Completed && e.Output != nil {
		var failed *step.Failure
		if end.output, failed = drive.Encode(e.Output); failed != nil {
			e.State, e.Failed = step.Failed, failed
		}
	}
	switch e.State {
	case step.Failed:
		end.outcome = lane.Failed
	case step.Cancelled:
		end.outcome = lane.Expired
		if a.Owner().Why() == lane.Abort {
			end.outcome, end.reason = lane.Aborted, lane.ReasonAborted
		}
	default:
		return end
	}
	if f := e.Failed; f != nil {
		if end.message = f.Message; f.Step != "" {
			end.message = f.Step + ": " + f.Message
		}
		if end.reason == "" {
			end.reason = f.Reason
		}
	}
	return end
}
