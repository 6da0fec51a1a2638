package ops

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/event"
)

// served serves the streams of events of a configuration.
func served(t *testing.T) (address string) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	a := &AdminAPI{ctx: ctx, replaced: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.events(w, r); err != nil {
			t.Errorf("streaming: %v", err)
		}
	}))
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	return server.Listener.Addr().String()
}

// A message is a server-sent event of a stream.
type message struct {
	name, id, data string
	event          event.Event
}

// A streamReader is a client of a stream.
type streamReader struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Reader
}

// open requests the events after an ID; 0: only new ones.
func open(t *testing.T, address, query string, after uint64) *streamReader {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	last := ""
	if after > 0 {
		last = fmt.Sprintf("Last-Event-ID: %d\r\n", after)
	}
	if _, err := fmt.Fprintf(conn, "GET /failover/events%s HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n%s\r\n", query, last); err != nil {
		t.Fatal(err)
	}
	return &streamReader{t, conn, bufio.NewReader(conn)}
}

// begun waits for the head of the answer.
func (r *streamReader) begun() {
	r.t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			r.t.Fatal(err)
		}
		if line == "\r\n" {
			return
		}
	}
}

// next reads the next message; there is none at the end of the stream.
func (r *streamReader) next() (m message, ok bool) {
	r.t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return m, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			m.name = value
		case "id":
			m.id = value
		case "data":
			m.data = value
		case "":
			if m.data == "" {
				continue
			}
			if m.name == "" {
				if err := json.Unmarshal([]byte(m.data), &m.event); err != nil {
					r.t.Fatalf("%v in %.100s", err, m.data)
				}
			}
			return m, true
		}
	}
}

// TestSlowReadersAreDropped checks that a stream that is not read ends and tells its reader why, and that the
// reader can come back for the missed events.
func TestSlowReadersAreDropped(t *testing.T) {
	address := served(t)
	reader := open(t, address, "", 0)
	reader.begun()
	flood := event.Event{Kind: event.Anomaly, Pool: "flood", Count: 1, Reason: strings.Repeat("x", 32<<10)}
	var last event.Event
	for range 3000 { // far more than the sockets and the subscription hold
		last = event.Latest.Add(flood)
	}
	var heard event.Event
	var told message
	for {
		m, ok := reader.next()
		if !ok {
			break
		}
		if m.name == "" {
			heard = m.event
		}
		told = m
	}
	if told.name != "too_slow" || !strings.Contains(told.data, "Last-Event-ID") || heard.ID == 0 || heard.ID >= last.ID {
		t.Fatalf("the stream ended after event %d of %d with %q %.100s", heard.ID, last.ID, told.name, told.data)
	}
	again := open(t, address, "", heard.ID)
	again.begun()
	for before := heard.ID; before < last.ID; {
		m, ok := again.next()
		if !ok {
			t.Fatalf("the resumed stream ended after event %d of %d", before, last.ID)
		}
		if m.name == "gap" {
			continue
		}
		if m.event.ID <= before || m.event.Pool != "flood" {
			t.Fatalf("event %d of %q came after %d", m.event.ID, m.event.Pool, before)
		}
		before = m.event.ID
	}
}

// TestAStreamTellsOfGaps checks that a stream that resumes after a forgotten event says how many are missing.
func TestAStreamTellsOfGaps(t *testing.T) {
	address := served(t)
	gaps := event.Event{Kind: event.Anomaly, Pool: "gaps", Count: 1}
	first := event.Latest.Add(gaps)
	for range event.Kept + 10 {
		event.Latest.Add(gaps)
	}
	reader := open(t, address, "?pool=gaps", first.ID)
	reader.begun()
	if m, ok := reader.next(); !ok || m.name != "gap" || m.data != `{"missed":10}` {
		t.Errorf("got %+v", m)
	}
	if m, ok := reader.next(); !ok || m.name != "" || m.event.ID != first.ID+11 {
		t.Errorf("after the gap: %+v", m)
	}
}
