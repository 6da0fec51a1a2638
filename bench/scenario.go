package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A scenario is one kind of traffic while all is well.
type scenario struct {
	Protocol  string `json:"protocol"` // h1, h2c or h2tls
	Size      int    `json:"size"`     // bytes of both bodies
	Endpoints int    `json:"endpoints"`
}

var protocolNames = map[string]string{h1: "HTTP/1.1", h2c: "HTTP/2 without TLS", h2tls: "HTTP/2 over TLS"}

func (s scenario) String() string {
	size := "no body"
	switch {
	case s.Size >= 1<<20:
		size = fmt.Sprintf("%d MiB", s.Size>>20)
	case s.Size > 0:
		size = fmt.Sprintf("%d KiB", s.Size>>10)
	}
	return fmt.Sprintf("%s, %s, %d endpoints", protocolNames[s.Protocol], size, s.Endpoints)
}

// What a run measures unless told otherwise, and everything there is.
const (
	defaultScenarios = "h1+h2c+h2tls:0+2048+1048576:3,h1:0+2048:30+300"
	allScenarios     = "h1+h2c+h2tls:0+2048+1048576:3+30+300"
)

const scenarioUsage = "comma separated, each like h1:2048:3, the protocol (h1, h2c or h2tls), the bytes of a body and the endpoints, of which each may be several: " +
	allScenarios + " or all for short (default " + defaultScenarios + ")"

// parseScenarios reads what to measure, each scenario once.
func parseScenarios(words string) (list []scenario, err error) {
	switch words {
	case "":
		words = defaultScenarios
	case "all":
		words = allScenarios
	}
	for word := range strings.SplitSeq(words, ",") {
		fields := strings.Split(word, ":")
		if len(fields) != 3 {
			return nil, fmt.Errorf("scenario %q: want for example h1:2048:3, the protocol, the bytes of a body, the endpoints", word)
		}
		sizes, err := numbers(fields[1], 0, maxBody)
		if err != nil {
			return nil, fmt.Errorf("scenario %q: bytes of a body: %w", word, err)
		}
		endpoints, err := numbers(fields[2], 1, 1000)
		if err != nil {
			return nil, fmt.Errorf("scenario %q: endpoints: %w", word, err)
		}
		for protocol := range strings.SplitSeq(fields[0], "+") {
			if protocolNames[protocol] == "" {
				return nil, fmt.Errorf("scenario %q: unknown protocol %q: want h1, h2c or h2tls", word, protocol)
			}
			for _, n := range endpoints {
				for _, size := range sizes {
					if s := (scenario{protocol, size, n}); !slices.Contains(list, s) {
						list = append(list, s)
					}
				}
			}
		}
	}
	return list, nil
}

// numbers reads numbers with + between them.
func numbers(words string, least, most int) (list []int, err error) {
	for word := range strings.SplitSeq(words, "+") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		if n < least || n > most {
			return nil, fmt.Errorf("%d is not within %d and %d", n, least, most)
		}
		list = append(list, n)
	}
	return list, nil
}
