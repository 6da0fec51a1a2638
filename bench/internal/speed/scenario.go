package speed

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// A Scenario is one kind of traffic with healthy endpoints.
type Scenario struct {
	Protocol  client.Protocol `json:"protocol"` // protocol between client and proxy
	Size      int             `json:"size"`     // size of each body in bytes
	Endpoints int             `json:"endpoints"`
}

// String describes the scenario for readers.
func (s Scenario) String() string {
	size := "no body"
	switch {
	case s.Size >= 1<<20:
		size = fmt.Sprintf("%d MiB", s.Size>>20)
	case s.Size > 0:
		size = fmt.Sprintf("%d KiB", s.Size>>10)
	}
	return fmt.Sprintf("%s, %s, %d endpoints", s.Protocol.Title(), size, s.Endpoints)
}

const (
	defaultScenarios = "h1+h2c+h2tls:0+2048+1048576:3,h1:0+2048:30+300"
	allScenarios     = "h1+h2c+h2tls:0+2048+1048576:3+30+300"
)

const scenarioUsage = "comma-separated scenarios such as h1:2048:3: protocol (h1, h2c or h2tls), bytes of a body, and number of endpoints; + separates alternatives: " +
	allScenarios + " or all for short (default " + defaultScenarios + ")"

// parseScenarios parses the scenarios to measure and removes duplicates. "" means
// defaultScenarios, and "all" means allScenarios.
func parseScenarios(words string) (list []Scenario, err error) {
	switch words {
	case "":
		words = defaultScenarios
	case "all":
		words = allScenarios
	}
	for word := range strings.SplitSeq(words, ",") {
		parsed, err := parseProduct(word)
		if err != nil {
			return nil, fmt.Errorf("scenario %q: %w", word, err)
		}
		for _, s := range parsed {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list, nil
}

// parseProduct parses protocols, sizes and numbers of endpoints, and returns every
// combination of them.
func parseProduct(word string) (list []Scenario, err error) {
	fields := strings.Split(word, ":")
	if len(fields) != 3 {
		return nil, fmt.Errorf("want protocol, bytes of a body and number of endpoints, such as h1:2048:3")
	}
	sizes, err := parseNumbers(fields[1], 0, payload.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("bytes of a body: %w", err)
	}
	endpoints, err := parseNumbers(fields[2], 1, 1000)
	if err != nil {
		return nil, fmt.Errorf("endpoints: %w", err)
	}
	for name := range strings.SplitSeq(fields[0], "+") {
		protocol := client.Protocol(name)
		if !slices.Contains(client.Protocols(), protocol) {
			return nil, fmt.Errorf("unknown protocol %q: want h1, h2c or h2tls", name)
		}
		for _, n := range endpoints {
			for _, size := range sizes {
				list = append(list, Scenario{protocol, size, n})
			}
		}
	}
	return list, nil
}

// parseNumbers parses numbers separated by +.
func parseNumbers(words string, least, most int) (list []int, err error) {
	for word := range strings.SplitSeq(words, "+") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		if n < least || n > most {
			return nil, fmt.Errorf("%d is not between %d and %d", n, least, most)
		}
		list = append(list, n)
	}
	return list, nil
}
