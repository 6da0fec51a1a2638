package redis

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"gopkg.in/yaml.v3"

	_ "github.com/apifailover/caddy-failover"
)

// TestDeployment checks that the fleet's Caddyfile works, and that all files that its services mount or
// build from exist.
func TestDeployment(t *testing.T) {
	t.Setenv("FLEET_SECRET", "s3cret")
	t.Setenv("HOSTNAME", "caddy-1")
	text, err := os.ReadFile("../deploy/fleet/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	off := strings.Replace(string(text), "{\n", "{\n\tadmin off\n\tauto_https off\n", 1)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(off), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Error(err)
	}
	var compose struct {
		Services map[string]struct {
			Image   string
			Build   struct{ Context, Dockerfile string }
			Volumes []string
		}
		Volumes map[string]any
	}
	text, err = os.ReadFile("../deploy/fleet/compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	if len(compose.Services) != 6 {
		t.Errorf("%d services", len(compose.Services))
	}
	for name, s := range compose.Services {
		files := []string{}
		if s.Build.Context != "" {
			files = append(files, filepath.Join(s.Build.Context, s.Build.Dockerfile))
		} else if s.Image == "" {
			t.Errorf("service %s has no image", name)
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, ".") {
				files = append(files, source)
			} else if _, ok := compose.Volumes[source]; !ok {
				t.Errorf("service %s mounts the volume %s, which is not declared", name, source)
			}
		}
		for _, file := range files {
			if info, err := os.Stat(filepath.Join("../deploy/fleet", file)); err != nil || info.IsDir() {
				t.Errorf("service %s: no file %s (%v)", name, file, err)
			}
		}
	}
}

// TestBuildWithoutItHasNoClient checks that only a build that names this package contains the client.
func TestBuildWithoutItHasNoClient(t *testing.T) {
	deps := func(packages ...string) string {
		t.Helper()
		out, err := exec.Command("go", append([]string{"list", "-deps"}, packages...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if all := deps("github.com/apifailover/caddy-failover"); strings.Contains(all, "redis") {
		t.Error("a build without this package contains a client")
	}
	if all := deps("github.com/apifailover/caddy-failover/redis"); !strings.Contains(all, "github.com/redis/go-redis/v9\n") {
		t.Error("a build with this package contains no client")
	}
}

// TestDocumentsNameTheBuild checks that the README, the documentation and the image build Caddy in the
// same way.
func TestDocumentsNameTheBuild(t *testing.T) {
	const with = "--with github.com/apifailover/caddy-failover/redis"
	for _, file := range []string{"../README.md", "../docs/fleet.md", "../deploy/fleet/Dockerfile"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), with) {
			t.Errorf("%s does not say %s", file, with)
		}
	}
}
