package process

import "net"

// FreePort returns a TCP port of loopback on which nothing listens. Another process may
// take it before its use.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
