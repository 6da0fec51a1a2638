package call

import (
	"testing"
	"unsafe"
)

// TestCallIsSmall bounds the size of Call, since each request allocates one.
func TestCallIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Call{}); size > 384 {
		t.Errorf("%d bytes", size)
	}
}
