//go:build !linux

package link

// queued is how many bytes that were written the other side has not taken yet, where the
// system tells; else 0.
func queued(uintptr) int { return 0 }
