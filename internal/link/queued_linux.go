package link

import (
	"syscall"
	"unsafe"
)

// queued returns how many written bytes the other side has not acknowledged; 0 on an error.
func queued(fd uintptr) (n int) {
	var value int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&value))); errno != 0 {
		return 0
	}
	return int(value)
}
