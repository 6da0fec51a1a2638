package link

import (
	"context"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// A dialFunc dials an address, like http.Transport.DialContext.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// A Redirect is called when the dial of a name begins. It returns a function that returns the contexts of later dials: in
// them, a transport's DialContext takes an address instead of the name that the request has. The request may be over by then, so
// the contexts must show its values as they are now.
type Redirect func(ctx context.Context) (at func(addr string) context.Context)

// stagger is how long the dial of one address of a name goes on alone. net dials the addresses of a family one
// after another, and gives each 2 s or more, which may be all the time that there is.
const stagger = 300 * time.Millisecond

// anyAddress returns a function that dials like dial, and dials one more address of a name after each stagger,
// of the same family. The first connection wins. See Watch for at.
func anyAddress(dial dialFunc, at Redirect) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || net.ParseIP(host) != nil || !strings.HasPrefix(network, "tcp") {
			return dial(ctx, network, addr)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		atAddress := at(ctx)
		x := &others{stop: cancel, dial: func(addr string) (net.Conn, error) { return dial(atAddress(addr), network, addr) }}
		conn, err := dial(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{DNSDone: func(found httptrace.DNSDoneInfo) {
			x.dialLater(afterFirst(found.Addrs, port))
		}}), network, addr)
		won := x.end()
		switch {
		case won == nil:
			return conn, err
		case err == nil:
			_ = won.Close()
			return conn, nil
		}
		return won, nil
	}
}

// afterFirst returns the addresses after the first one, of its family, with a port.
func afterFirst(found []net.IPAddr, port string) (addrs []string) {
	for i, one := range found {
		if i > 0 && (one.IP.To4() == nil) == (found[0].IP.To4() == nil) {
			addrs = append(addrs, net.JoinHostPort(one.String(), port))
		}
	}
	return addrs
}

// others dials further addresses of a name while the dial of the name is under way.
type others struct {
	dial func(addr string) (net.Conn, error)
	stop func() // ends all dials

	mu   sync.Mutex
	next *time.Timer // nil: none
	won  net.Conn    // nil: none so far
	over bool
}

// dialLater dials the first of the addresses after stagger, and the others after that.
func (x *others) dialLater(addrs []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || len(addrs) == 0 {
		return
	}
	x.next = time.AfterFunc(stagger, func() {
		x.dialLater(addrs[1:])
		x.dialNow(addrs[0])
	})
}

func (x *others) dialNow(addr string) {
	conn, err := x.dial(addr)
	if err != nil {
		return
	}
	x.mu.Lock()
	late := x.over || x.won != nil
	if !late {
		x.won = conn
	}
	x.mu.Unlock()
	if late {
		_ = conn.Close()
		return
	}
	x.stop()
}

// end begins no further dial, and returns the connection that won; nil: none.
func (x *others) end() net.Conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	if x.next != nil {
		x.next.Stop()
	}
	return x.won
}
