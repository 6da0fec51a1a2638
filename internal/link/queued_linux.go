package link

import (
	"syscall"
	"unsafe"
)

// queued is how many bytes that were written the other side has not taken yet.
func queued(fd uintptr) (n int) {
	var value int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&value))); errno != 0 {
		return 0
	}
	return int(value)
}
