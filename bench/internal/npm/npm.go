// Package npm installs the npm packages that other packages run: Portkey's gateway, and the official
// clients of LLM APIs.
package npm

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed files
var files embed.FS

// Gateway is the package of Portkey's gateway.
const Gateway = "@portkey-ai/gateway"

// Install installs the packages below a directory, which needs node and npm. It returns the
// directory with node_modules.
func Install(ctx context.Context, dir string) (string, error) {
	if err := os.CopyFS(dir, files); err != nil {
		return "", err
	}
	to := filepath.Join(dir, "npm")
	if err := os.Rename(filepath.Join(dir, "files"), to); err != nil {
		return "", err
	}
	install := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline")
	install.Dir = to
	if text, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, text)
	}
	return to, nil
}

// Version returns the version of a package that Install installs, or "" if it installs none of
// that name.
func Version(name string) string {
	var packages struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	text, err := files.ReadFile("files/package.json")
	if err != nil || json.Unmarshal(text, &packages) != nil {
		return ""
	}
	return packages.Dependencies[name]
}
