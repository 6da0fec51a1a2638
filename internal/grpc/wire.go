package grpc

import (
	"encoding/binary"
	"errors"
)

// eachField calls f for each field of a message of protocol buffers, with its number or its
// bytes, until what is left is malformed.
func eachField(message []byte, f func(field int, n uint64, bytes []byte)) {
	for len(message) > 0 {
		tag, used := binary.Uvarint(message)
		if used <= 0 || tag>>3 == 0 || tag>>3 >= 1<<29 {
			return
		}
		message = message[used:]
		field, size := int(tag>>3), 0
		switch tag & 7 {
		case 0:
			n, used := binary.Uvarint(message)
			if used <= 0 {
				return
			}
			f(field, n, nil)
			message = message[used:]
			continue
		case 1:
			size = 8
		case 2:
			n, used := binary.Uvarint(message)
			if used <= 0 || n > uint64(len(message)-used) {
				return
			}
			message = message[used:]
			f(field, 0, message[:n])
			message = message[n:]
			continue
		case 5:
			size = 4
		default:
			return
		}
		if len(message) < size {
			return
		}
		message = message[size:]
	}
}

// head is what precedes a message: whether it is compressed, and its length.
const head = 5

// frame is a message as it goes in a body.
func frame(message []byte) []byte {
	framed := append(make([]byte, head, head+len(message)), message...)
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return framed
}

// Messages counts the messages of a body as it comes. The zero value has seen nothing.
type Messages struct {
	Whole int  // that have come whole
	Some  bool // some byte has come

	before []byte // of a head
	room   [head]byte
	left   uint32 // bytes of the message that comes
}

// Add takes more of the body.
func (m *Messages) Add(more []byte) {
	m.Some = m.Some || len(more) > 0
	for len(more) > 0 {
		if m.left > 0 {
			n := min(uint64(m.left), uint64(len(more)))
			more = more[n:]
			if m.left -= uint32(n); m.left == 0 {
				m.Whole++
			}
			continue
		}
		n := min(head-len(m.before), len(more))
		m.before = append(m.room[:len(m.before)], more[:n]...)
		more = more[n:]
		if len(m.before) == head {
			m.left = binary.BigEndian.Uint32(m.before[1:])
			m.before = nil
			if m.left == 0 {
				m.Whole++
			}
		}
	}
}

// CheckPath is where grpc.health.v1 answers.
const CheckPath = "/grpc.health.v1.Health/Check"

// CheckRequest is the body of a request for the health of a service; empty: of the whole server.
func CheckRequest(service string) []byte {
	if service == "" {
		return frame(nil)
	}
	message := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
	return frame(append(message, service...))
}

// Health is the status of a service in an answer of grpc.health.v1.
type Health uint64

// Serving is the status of a service that is well.
const Serving Health = 1

// String returns the status's name.
func (h Health) String() string {
	switch h {
	case Serving:
		return "SERVING"
	case 2:
		return "NOT_SERVING"
	case 3:
		return "SERVICE_UNKNOWN"
	}
	return "UNKNOWN"
}

// CheckAnswer reads the status in the body of an answer.
func CheckAnswer(body []byte) (status Health, err error) {
	switch {
	case len(body) < head || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-head):
		return 0, errors.New("no message")
	case body[0] != 0:
		return 0, errors.New("compressed message")
	}
	eachField(body[head:], func(field int, n uint64, _ []byte) {
		if field == 1 {
			status = Health(n)
		}
	})
	return status, nil
}
