package peers

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"

	"github.com/apifailover/caddy-failover/bench/internal/certificate"
)

// certify writes a new certificate for 127.0.0.1 to a directory, in the files that the
// peers need: cert.pem, key.pem, and both.pem with both. It returns the roots that a client
// must trust.
func certify(dir string) (*x509.CertPool, error) {
	pair, err := certificate.New()
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{
		"cert.pem": pair.Certificate, "key.pem": pair.Key, "both.pem": slices.Concat(pair.Certificate, pair.Key),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return pair.Roots(), nil
}
