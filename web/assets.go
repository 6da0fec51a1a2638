package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
)

//go:embed page
var page embed.FS

// An asset is a file of the page, plain and compressed with gzip. It is read-only.
type asset struct {
	mediaType string
	plain     []byte
	packed    []byte // nil if gzip does not make it smaller
}

// A bundle is all files of the page. Its version is a hash of their contents, and a part of
// their paths. So browsers can cache each file for ever, and modules can import each other by
// plain names. It is read-only.
type bundle struct {
	version string
	assets  map[string]*asset // by path below the version
	index   string            // with placeholders, see pageFor
}

// theBundle returns the bundle, which the first call builds.
var theBundle = sync.OnceValues(func() (*bundle, error) {
	root, err := fs.Sub(page, "page")
	if err != nil {
		return nil, fmt.Errorf("opening the page's files: %w", err)
	}
	return newBundle(root)
})

var mediaTypes = map[string]string{
	".css":     "text/css; charset=utf-8",
	".html":    "text/html; charset=utf-8",
	".js":      "text/javascript; charset=utf-8",
	".svg":     "image/svg+xml",
	".woff2":   "font/woff2",
	".LICENSE": "text/plain; charset=utf-8",
}

func newBundle(root fs.FS) (*bundle, error) {
	b := &bundle{assets: make(map[string]*asset)}
	hash := sha256.New()
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s\n%d\n", name, len(content))
		hash.Write(content)
		if name == "index.html" {
			b.index = string(content)
			return nil
		}
		mediaType, ok := mediaTypes[path.Ext(name)]
		if !ok {
			return fmt.Errorf("%s: unknown kind of file", name)
		}
		b.assets[name], err = newAsset(mediaType, content)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the page's files: %w", err)
	}
	b.version = base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:12])
	return b, nil
}

func newAsset(mediaType string, content []byte) (*asset, error) {
	a := &asset{mediaType: mediaType, plain: content}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if packed.Len() < len(content) {
		a.packed = packed.Bytes()
	}
	return a, nil
}

// pageFor returns index.html for a page at a path. Its references are relative to the page, so
// they also work behind a proxy that strips a prefix.
func (b *bundle) pageFor(at string) (*asset, error) {
	base := path.Base(at) + "/"
	if at == "/" {
		base = ""
	}
	content := strings.NewReplacer(
		"{assets}", base+b.version,
		"{stream}", base+streamName,
		"{version}", b.version,
	).Replace(b.index)
	return newAsset(mediaTypes[".html"], []byte(content))
}
