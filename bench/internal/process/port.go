package process

import (
	"net"
	"sync"
)

// given are the ports that FreePort has returned.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// FreePort returns a TCP port of loopback on which nothing listens, each port once: two servers
// that start at the same time never get the same one. Another process may take it before its use.
func FreePort() (int, error) {
	given.Lock()
	defer given.Unlock()
	for {
		port, err := unused()
		if err != nil {
			return 0, err
		}
		if given.ports[port] {
			continue
		}
		if given.ports == nil {
			given.ports = make(map[int]bool)
		}
		given.ports[port] = true
		return port, nil
	}
}

func unused() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
