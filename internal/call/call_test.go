package call

import (
	"testing"
	"unsafe"
)

// TestCallIsSmall bounds the record that each request makes.
func TestCallIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Call{}); size > 384 {
		t.Errorf("%d bytes", size)
	}
}
