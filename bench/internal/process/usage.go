package process

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// CPU returns the total CPU time of processes since their start. It reads their CPU clocks,
// which count nanoseconds; /proc counts ticks of 10 ms.
func CPU(pids []int) (used time.Duration) {
	for _, pid := range pids {
		clock := int32(^pid<<3 | 2) // see clock_getcpuclockid(3)
		var at syscall.Timespec
		if _, _, e := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&at)), 0); e == 0 {
			used += time.Duration(at.Nano())
		}
	}
	return used
}

// Memory returns the total resident set of processes in bytes: now, and the sum of their
// peaks.
func Memory(pids []int) (now, peak int64) {
	for _, pid := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			fields := strings.Fields(s.Text())
			if len(fields) < 2 {
				continue
			}
			kb, _ := strconv.ParseInt(fields[1], 10, 64)
			switch fields[0] {
			case "VmRSS:":
				now += kb << 10
			case "VmHWM:":
				peak += kb << 10
			}
		}
		f.Close()
	}
	return now, peak
}
