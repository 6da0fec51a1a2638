package failover

import (
	"strings"
	"testing"
)

// TestAffinitySecret checks that a placeholder without a value is an error in a secret.
func TestAffinitySecret(t *testing.T) {
	const site = "failover {\n\tendpoint http://one.example\n\taffinity cookie sticky {env.FAILOVER_TEST_SECRET}\n}\n"
	if err := validates(t, site); err == nil || !strings.Contains(err.Error(), "affinity cookie: secret: ") {
		t.Errorf("an unset secret: %v", err)
	}
	t.Setenv("FAILOVER_TEST_SECRET", "s3cret")
	if err := validates(t, site); err != nil {
		t.Errorf("a secret that is set: %v", err)
	}
}
