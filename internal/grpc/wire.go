package grpc

import (
	"encoding/binary"
	"errors"
)

// Wire types. See protobuf.dev/programming-guides/encoding.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// eachField calls f for each field of a message of protocol buffers: with n for a varint, with
// bytes for a field that has a length. It leaves out fields of a fixed size, and stops at the
// first malformed one.
func eachField(message []byte, f func(field int, n uint64, bytes []byte)) {
	for len(message) > 0 {
		tag, used := binary.Uvarint(message)
		if used <= 0 || tag>>3 == 0 || tag>>3 >= 1<<29 {
			return
		}
		message = message[used:]
		field, size := int(tag>>3), 0
		switch tag & 7 {
		case wireVarint:
			n, used := binary.Uvarint(message)
			if used <= 0 {
				return
			}
			f(field, n, nil)
			message = message[used:]
			continue
		case wireFixed64:
			size = 8
		case wireBytes:
			n, used := binary.Uvarint(message)
			if used <= 0 || n > uint64(len(message)-used) {
				return
			}
			message = message[used:]
			f(field, 0, message[:n])
			message = message[n:]
			continue
		case wireFixed32:
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

// prefixSize is the number of bytes before each message in a body: whether it is compressed, and
// its length.
const prefixSize = 5

// frame returns a message with its prefix.
func frame(message []byte) []byte {
	framed := append(make([]byte, prefixSize, prefixSize+len(message)), message...)
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return framed
}

// Messages counts the messages of a body as it arrives. The zero value has seen nothing. It is
// not safe for concurrent use.
type Messages struct {
	Whole int  // number of messages that have arrived whole
	Some  bool // any byte has arrived

	prefix  [prefixSize]byte // of the next message
	arrived int              // bytes of prefix
	left    uint32           // bytes of the current message that are still to arrive
}

// Add reads the next part of the body.
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
		n := copy(m.prefix[m.arrived:], more)
		m.arrived += n
		more = more[n:]
		if m.arrived == prefixSize {
			m.left = binary.BigEndian.Uint32(m.prefix[1:])
			m.arrived = 0
			if m.left == 0 {
				m.Whole++
			}
		}
	}
}

// CheckPath is the path of grpc.health.v1's health check.
const CheckPath = "/grpc.health.v1.Health/Check"

// CheckRequest returns the body of a request for the health of a service. An empty name means the
// whole server.
func CheckRequest(service string) []byte {
	if service == "" {
		return frame(nil)
	}
	message := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
	return frame(append(message, service...))
}

// Health is the status of a service in a response of grpc.health.v1.
type Health uint64

// Serving is the status of a healthy service.
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

// CheckAnswer reads the status in the body of a response. Fields that are malformed or missing
// leave it 0, which means unknown.
func CheckAnswer(body []byte) (status Health, err error) {
	switch {
	case len(body) < prefixSize || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-prefixSize):
		return 0, errors.New("no message")
	case body[0] != 0:
		return 0, errors.New("compressed message")
	}
	eachField(body[prefixSize:], func(field int, n uint64, _ []byte) {
		if field == 1 {
			status = Health(n)
		}
	})
	return status, nil
}
