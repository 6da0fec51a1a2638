package target

import "testing"

func TestLocal(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "127.8.9.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, ":9001": true, "0.0.0.0:80": true, "[::]:80": true,
		"localhost:80": true, "LOCALHOST:80": true, "localhost.:80": true, "api.localhost:80": true, "unix//run/api.sock": true, "unix+h2c//run/api.sock": true, "fd/3": true,
		"api.example:80": false, "10.0.0.1:80": false, "[fd00::1]:80": false, "localhost.example:80": false, "notlocalhost:80": false,
		"127.0.0.1.example:80": false, "{env.HOST}:80": false, "[::ffff:10.0.0.1]:80": false,
	} {
		if got := Local(address); got != want {
			t.Errorf("%s: got %v", address, got)
		}
	}
}
