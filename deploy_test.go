package failover

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestDemo checks that the demo's Caddyfile works, and that all files that its services mount or build
// from exist.
func TestDemo(t *testing.T) {
	text, err := os.ReadFile("deploy/demo/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if err := validates(t, strings.Replace(string(text), "metrics\n", "admin off\n\tauto_https off\n\tmetrics\n", 1)); err != nil {
		t.Errorf("deploy/demo/Caddyfile: %v", err)
	}
	var compose struct {
		Services map[string]struct {
			Image   string
			Build   struct{ Context, Dockerfile string }
			Volumes []string
		}
		Volumes map[string]any
	}
	decodeYAML(t, "deploy/compose.yml", &compose)
	if len(compose.Services) == 0 {
		t.Error("no services")
	}
	for name, service := range compose.Services {
		if build := service.Build; build.Context != "" {
			requireFile(t, filepath.Join("deploy", build.Context, build.Dockerfile))
		} else if service.Image == "" {
			t.Errorf("service %s has no image", name)
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := compose.Volumes[source]; !ok {
					t.Errorf("service %s mounts the volume %s, which is not declared", name, source)
				}
				continue
			}
			requireFile(t, filepath.Join("deploy", source))
		}
	}
}

// TestContainerBuildsAsTheREADMESays checks that the image is built with the README's command.
func TestContainerBuildsAsTheREADMESays(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	dockerfile, err := os.ReadFile("deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	const build = "go tool xcaddy build --output %scaddy --with github.com/apifailover/caddy-failover@v0.0.0=."
	if want := strings.Replace(build, "%s", "", 1); !strings.Contains(string(readme), want) {
		t.Errorf("README.md does not say %q", want)
	}
	if want := "RUN " + strings.Replace(build, "%s", "/", 1); !strings.Contains(string(dockerfile), want) {
		t.Errorf("deploy/Dockerfile does not say %q", want)
	}
}

// TestYAMLOfTheRepositoryParses checks workflows, issue forms, and files that the demo provisions.
func TestYAMLOfTheRepositoryParses(t *testing.T) {
	checked := 0
	for _, pattern := range []string{".github/*.yml", ".github/*/*.yml", "deploy/*.yml", "deploy/demo/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			checked++
			var document map[string]any
			decodeYAML(t, file, &document)
			if len(document) == 0 {
				t.Errorf("%s is empty", file)
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d files", checked)
	}
}

func decodeYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

func requireFile(t *testing.T, file string) {
	t.Helper()
	if info, err := os.Stat(file); err != nil || info.IsDir() {
		t.Errorf("no file %s (%v)", file, err)
	}
}

// TestGrafanaBoard checks that the board has a UID, and that each of its panels shows the pools and the
// instances that its variables select.
func TestGrafanaBoard(t *testing.T) {
	text, err := os.ReadFile("deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID        string
		Templating struct {
			List []struct {
				Name, Type        string
				IncludeAll, Multi bool
				Query             any
			}
		}
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" {
		t.Error("the board has no uid")
	}
	variables := map[string]bool{}
	for _, v := range board.Templating.List {
		variables[v.Name] = v.Type == "datasource" || v.IncludeAll && v.Multi
	}
	for _, name := range []string{"datasource", "pool", "instance"} {
		if !variables[name] {
			t.Errorf("the board has no variable %s for several values", name)
		}
	}
	series := regexp.MustCompile(`caddy_failover_[a-z_]+(\{[^}]*\})?`)
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the ID %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, m := range series.FindAllStringSubmatch(target.Expr, -1) {
				if !strings.Contains(m[1], `pool=~"$pool"`) || !strings.Contains(m[1], `instance=~"$instance"`) {
					t.Errorf("the panel %q shows %s, whatever the variables select", p.Title, m[0])
				}
			}
		}
	}
}

// TestAlertsHaveARunbook checks that docs/runbook.md has a section for each alert, and that the alert
// links to it.
func TestAlertsHaveARunbook(t *testing.T) {
	text, err := os.ReadFile("deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	sections := anchors(t, "docs/runbook.md")
	alerts := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			alerts++
			section := strings.ToLower(rule.Alert)
			if !slices.Contains(sections, section) {
				t.Errorf("docs/runbook.md has no section for the alert %s", rule.Alert)
			}
			if link := rule.Annotations["runbook_url"]; !strings.HasSuffix(link, "/docs/runbook.md#"+section) {
				t.Errorf("the runbook_url of the alert %s is %q", rule.Alert, link)
			}
		}
	}
	if alerts == 0 {
		t.Error("deploy/alerts.yml has no alert")
	}
}
