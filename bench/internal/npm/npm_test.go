package npm

import "testing"

func TestVersion(t *testing.T) {
	if Version(Gateway) == "" || Version("unknown") != "" {
		t.Errorf("versions %q and %q", Version(Gateway), Version("unknown"))
	}
}
