package relay

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"
)

// echo starts a server that sends each line back. It returns its address and its connections.
func echo(t *testing.T) (address string, conns <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
			go func() {
				defer conn.Close()
				for in := bufio.NewScanner(conn); in.Scan(); {
					fmt.Fprintln(conn, in.Text())
				}
			}()
		}
	}()
	return l.Addr().String(), accepted
}

// hears reports whether a line that is sent over a connection comes back.
func hears(t *testing.T, conn net.Conn, within time.Duration) bool {
	t.Helper()
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(make([]byte, 100))
	var timeout net.Error
	if err != nil {
		var ok bool
		if timeout, ok = err.(net.Error); !ok || !timeout.Timeout() {
			t.Fatalf("the connection ended: %v", err)
		}
	}
	return n > 0
}

// TestRelay loses connections: lost ones stay open and silent, also if their server ends them.
func TestRelay(t *testing.T) {
	const soon, patience = 50 * time.Millisecond, 20 * time.Second
	address, accepted := echo(t)
	r, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	first := dial()
	if !hears(t, first, patience) {
		t.Error("a connection is silent before any is lost")
	}
	r.Lose()
	if hears(t, first, soon) {
		t.Error("a lost connection answers")
	}
	second := dial()
	if !hears(t, second, patience) {
		t.Error("a connection after the loss is silent")
	}
	r.Deafen()
	third := dial()
	if hears(t, second, soon) || hears(t, third, soon) {
		t.Error("a deaf relay answers")
	}
	r.Heal()
	if hears(t, third, soon) {
		t.Error("a lost connection is back")
	}
	if !hears(t, dial(), patience) {
		t.Error("a connection after the heal is silent")
	}
	(<-accepted).Close()
	if hears(t, first, soon) {
		t.Error("a lost connection answers")
	}
}
