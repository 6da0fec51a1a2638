package lab

import (
	"fmt"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestMain keeps what pools store out of the user's data.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lab")
	if err == nil {
		defer os.RemoveAll(dir)
		caddy.DefaultStorage.Path = dir
		err = os.Setenv("XDG_DATA_HOME", dir)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}
