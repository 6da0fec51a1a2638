package memory

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// SetDefault sets the limit of Bodies to Default unless it has a limit. Only the first call in a
// process does anything.
var SetDefault = sync.OnceFunc(func() {
	if Bodies.Limit() == 0 {
		Bodies.SetLimit(Default())
	}
})

// Default returns a quarter of GOMEMLIMIT in bytes. Without GOMEMLIMIT, it returns a quarter of
// the control group's limit or of the machine's memory, whichever is less. If neither is known, it
// returns 256 MiB.
var Default = sync.OnceValue(func() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit / 4
	}
	least := int64(math.MaxInt64)
	for _, file := range [...]string{
		"/sys/fs/cgroup/memory.max",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes",
		"/proc/meminfo",
	} {
		if text, err := os.ReadFile(file); err == nil {
			if n, ok := parse(text); ok {
				least = min(least, n)
			}
		}
	}
	if least == math.MaxInt64 {
		return 256 << 20
	}
	return least / 4
})

// parse reads a limit in bytes, or the MemTotal of /proc/meminfo. ok is false if the text is no
// limit, such as "max".
func parse(text []byte) (n int64, ok bool) {
	if line, found := bytes.CutPrefix(text, []byte("MemTotal:")); found {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(string(line), "kB")), 10, 64)
		return n << 10, err == nil && n > 0 && n < math.MaxInt64>>10
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil && n > 0
}
