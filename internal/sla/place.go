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

// A place is where in a storage an instance of a pool is kept.
type place struct{ pool, instance string } // as in keys, pool with the prefix

func (p place) key(part, slot int) string {
	return fmt.Sprintf("%s/%s/%s.%d", p.pool, p.instance, parts[part], slot)
}

// newPlace returns the place of an instance, and the one that it had while keys were made
// by [escapeElement] alone, which may be the same.
func newPlace(prefix, pool, instance string) (now, former place) {
	return place{path.Join(prefix, keySafe(pool)), keySafe(instance)},
		place{path.Join(prefix, escapeElement(pool)), escapeElement(instance)}
}

// portable tells whether every file system could have taken the place: where it could not,
// there is nothing, whatever the error.
func (p place) portable() bool {
	return isPortable(path.Base(p.pool)) && isPortable(p.instance)
}

const (
	// longestElement of a key is what file systems (255 bytes) and Windows' longest paths
	// (260 characters in all) leave room for.
	longestElement = 64
	// hashedMark is in no key that escapeElement makes.
	hashedMark = "%x"
)

// keySafe returns s as one element of a key, in characters and of a length that every
// storage takes. Different texts give different elements, even where a storage does not
// tell capital letters from small ones. Texts that are short and without capital letters
// are readable in it; of others there are the first characters and a hash.
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

// isPortable tells whether an element can be the name of a directory everywhere.
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

// escapeElement returns s as one element of a key, with all but plain characters escaped.
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

// renewed returns the element that is made now of what an element was made of.
func renewed(element string) string {
	if element == "%" {
		return keySafe("")
	}
	if text, err := url.PathUnescape(element); err == nil {
		return keySafe(text)
	}
	return element // it is of now
}
