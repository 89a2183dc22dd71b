package model

import "iter"

// Collect reads a stream to its end and returns the message that it made. On an error the message holds the blocks that were
// complete by then.
func Collect(stream iter.Seq2[Part, error]) (Message, error) {
	m := Message{Role: Assistant}
	finished := false
	for p, err := range stream {
		if err != nil {
			return m, err
		}
		switch p.Type {
		case PartBlock:
			m.Content = append(m.Content, p.Block)
		case PartRestart:
			m.Content = nil
		case PartFinish:
			finished = true
			m.Usage, m.Stop = &p.Usage, p.Stop
		}
	}
	if !finished {
		return m, errCut()
	}
	return m, nil
}

// errCut is for a stream that ends with neither a finish nor an error, which a Model must not do.
func errCut() *Error {
	return &Error{Kind: KindCut, Retryable: true, Text: "the model's stream ended before its end"}
}
