package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/margay-project/margay/bpf/layout"
)

// Question is a frame of a workload that felix answers: DHCP, or a router solicitation.
type Question struct {
	Ifindex int
	Frame   []byte // from the Ethernet header on
}

// Questions reads the buffer of questions. There may be one reader at a time.
type Questions struct {
	ring *ringbuf.Reader
}

// ReadQuestions opens the buffer of questions. The caller closes it.
func (s *Shared) ReadQuestions() (*Questions, error) {
	ring, err := ringbuf.NewReader(s.maps["questions"])
	if err != nil {
		return nil, explain("open the buffer of questions", err)
	}
	return &Questions{ring}, nil
}

// Next waits for a question. Its error wraps os.ErrDeadlineExceeded after the deadline, and is ErrClosed after Close.
func (q *Questions) Next() (Question, error) {
	record, err := q.ring.Read()
	if errors.Is(err, ringbuf.ErrClosed) {
		return Question{}, ErrClosed
	}
	if err != nil {
		return Question{}, fmt.Errorf("read a question: %w", err)
	}
	const header = 8
	raw := record.RawSample
	if len(raw) < header {
		return Question{}, fmt.Errorf("a question has %d bytes", len(raw))
	}
	length := binary.NativeEndian.Uint32(raw[4:])
	if length > layout.QuestionBytes || int(length) > len(raw)-header {
		return Question{}, fmt.Errorf("a question of %d bytes has %d", length, len(raw))
	}
	return Question{Ifindex: int(binary.NativeEndian.Uint32(raw)), Frame: raw[header : header+length]}, nil
}

// SetDeadline bounds how long Next waits.
func (q *Questions) SetDeadline(t time.Time) { q.ring.SetDeadline(t) }

// Close ends the reading. A Next that waits returns ErrClosed.
func (q *Questions) Close() error { return q.ring.Close() }
