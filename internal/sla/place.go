package sla

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// place is the part of a storage that holds one instance of a pool.
type place struct{ pool, instance string } // as in keys; pool includes the prefix

func (p place) key(part, slot int) string {
	return fmt.Sprintf("%s/%s/%s.%d", p.pool, p.instance, parts[part], slot)
}

// newPlace returns the place of an instance, and its former place: earlier versions made
// keys with [escapeElement] alone. The two can be equal.
func newPlace(prefix, pool, instance string) (now, former place) {
	return place{path.Join(prefix, keySafe(pool)), keySafe(instance)},
		place{path.Join(prefix, escapeElement(pool)), escapeElement(instance)}
}

// portable reports whether every file system can hold the place. A place that is not
// portable may be missing whatever error a storage returns.
func (p place) portable() bool {
	return isPortable(path.Base(p.pool)) && isPortable(p.instance)
}

const (
	// longestElement is the longest element of a key. It leaves room within the limits of
	// file systems (255 bytes) and of Windows paths (260 characters in all).
	longestElement = 64
	// hashedMark is in no key that escapeElement makes.
	hashedMark = "%x"
)

// keySafe returns s as one element of a key that every storage accepts. Different texts
// give different elements, even in a storage that ignores case. A short text without
// capital letters stays readable. Any other text becomes its first characters and a hash.
func keySafe(s string) string {
	escaped := escapeElement(s)
	if len(escaped) <= longestElement && isPortable(escaped) && !strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		return escaped
	}
	readable := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return -1
	}, strings.ToLower(s))
	hash := sha256.Sum256([]byte(s))
	return readable[:min(len(readable), 24)] + hashedMark + hex.EncodeToString(hash[:16])
}

// isPortable reports whether an element can be a directory name on every file system.
func isPortable(element string) bool {
	base, _, _ := strings.Cut(strings.ToLower(element), ".")
	switch {
	case len(element) > 255, strings.HasSuffix(element, "."):
		return false
	case slices.Contains([]string{"con", "prn", "aux", "nul"}, base):
		return false
	}
	return !(len(base) == 4 && (strings.HasPrefix(base, "com") || strings.HasPrefix(base, "lpt")) && '0' <= base[3] && base[3] <= '9')
}

// escapeElement returns s as one element of a key, and escapes all but plain characters.
// Different texts give different elements.
func escapeElement(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; strings.IndexByte(plain, c) >= 0 || (c == '.' && i > 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() == 0 {
		return "%"
	}
	return b.String()
}

// renewed returns the current element for the text of an element that an earlier version
// made.
func renewed(element string) string {
	if element == "%" {
		return keySafe("")
	}
	if text, err := url.PathUnescape(element); err == nil {
		return keySafe(text)
	}
	return element // made by keySafe
}

// KeyBeside returns the key of another value of an instance of a pool, beside its history.
// File must consist of small letters.
func KeyBeside(prefix, pool, instance, file string) string {
	now, _ := newPlace(prefix, pool, instance)
	return now.pool + "/" + now.instance + "/" + file
}
