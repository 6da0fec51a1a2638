package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
)

const (
	// answerWithin is how long Caddy may take to begin an answer.
	answerWithin = 30 * time.Second
	maxAnswer    = 64 << 20
	sendTries    = 3
)

// client talks to the admin endpoint of a Caddy.
type client struct {
	ctx     context.Context
	address string // as it was given
	origin  string
	network bool // not a Unix socket
	http    *http.Client
}

func newClient(ctx context.Context, address string) (*client, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return nil, fmt.Errorf("reading the admin address %q: %w", address, err)
	}
	if parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("the admin address %q has several ports", address)
	}
	if parsed.IsFdNetwork() {
		return nil, fmt.Errorf("the admin address %q is a file descriptor of Caddy's own; name another with --address", address)
	}
	if ctx == nil {
		ctx = context.Background()
	}
	c := &client{ctx: ctx, address: address, network: !parsed.IsUnixNetwork()}
	if c.network {
		c.origin = "http://" + parsed.JoinHostPort(0)
	} else {
		c.origin = "http://127.0.0.1"
		parsed.Host, _, _ = strings.Cut(parsed.Host, "|") // the socket's permissions
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, parsed.Network, parsed.JoinHostPort(0))
		},
		ResponseHeaderTimeout: answerWithin,
		DisableKeepAlives:     true, // a reload replaces the endpoint
	}}
	return c, nil
}

// send makes a request. An answer that is no success becomes an error with an
// exit code.
func (c *client) send(method, uri string, body any, header ...string) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(c.ctx, method, c.origin+uri, bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	if c.network {
		req.Header.Set("Origin", c.origin) // where the endpoint enforces it
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	for tries := 1; tries < sendTries && Dropped(err); tries++ {
		// an endpoint that a reload replaces drops connections; commands may be
		// given twice
		req.Body, _ = req.GetBody()
		resp, err = c.http.Do(req)
	}
	if err != nil {
		if c.ctx.Err() != nil {
			return nil, c.ctx.Err()
		}
		return nil, &commandError{ExitUnreachable, fmt.Errorf("no Caddy answers at %s: %w\n"+
			"is it running, with its admin endpoint on? another address can be given with --address or --config", c.address, plainCause(err))}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(resp)
}

// Dropped tells whether a connection was closed before there was an answer.
func Dropped(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// plainCause takes off what repeats the request.
func plainCause(err error) error { return cmp.Or(errors.Unwrap(err), err) }

// refused makes an error of an answer that is no success.
func (c *client) refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var message struct {
		Error string `json:"error"`
	}
	spoken := json.Unmarshal(text, &message) == nil && message.Error != ""
	switch {
	case resp.StatusCode == http.StatusNotFound && spoken:
		return &commandError{ExitUnknown, errors.New(api.Printable(message.Error))}
	case resp.StatusCode == http.StatusNotFound:
		return &commandError{ExitUnreachable, fmt.Errorf("the Caddy at %s has no failover plugin", c.address)}
	case spoken:
		return &commandError{ExitRefused, errors.New(api.Printable(message.Error))}
	}
	return &commandError{ExitRefused, fmt.Errorf("the Caddy at %s answered %s", c.address, resp.Status)}
}

// exchange makes a request and decodes the answer, which it also returns as it
// came.
func (c *client) exchange(method, uri string, body, into any) (string, error) {
	resp, err := c.send(method, uri, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", &commandError{ExitUnreachable, fmt.Errorf("reading the answer of %s: %w", c.address, err)}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return "", fmt.Errorf("reading the answer of %s: %w", c.address, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// soleOr returns the pool that is named, or else the only one there is.
func (c *client) soleOr(named []string) (string, error) {
	if len(named) > 0 {
		return named[0], nil
	}
	var all []api.PoolStatus
	if _, err := c.exchange(http.MethodGet, api.Root+"pools", nil, &all); err != nil {
		return "", err
	}
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.Name
	}
	switch len(names) {
	case 0:
		return "", &commandError{ExitUnknown, fmt.Errorf("the Caddy at %s has no pool", c.address)}
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("which pool? there are %s", api.ListNames(names))
}

// A Message is one of a stream of server-sent events.
type Message struct{ Name, ID, Data string }

// Messages reads a stream of server-sent events until it ends or take says so.
func Messages(r io.Reader, take func(Message) bool) error {
	var m Message
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "" {
			if (m.Data != "" || m.ID != "") && !take(m) {
				return nil
			}
			m = Message{}
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			m.Name = value
		case "id":
			m.ID = value
		case "data":
			m.Data = value
		}
	}
	return lines.Err()
}
