package target

import (
	"net/url"
	"strings"
)

// LeavesBase reports whether some server may read the path of a request as one above its
// beginning. It assumes that servers decode a path any number of times and take other
// characters for dots and slashes. It runs for every request, so it scans cheaply first.
func LeavesBase(request *url.URL) bool {
	if request.Opaque != "" {
		return true // net/http would send it instead of the path
	}
	path := request.Path
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c > '.' && c < 0x7f:
		case c == '%', c < ' ', c >= 0x7f, c == '.' && i > 0 && path[i-1] == '.':
			return climbs(request.EscapedPath())
		}
	}
	return false
}

// climbs reports whether an escaped path leads above its beginning in some reading. It
// assumes the worst for each segment: a server may resolve dot segments before or after it
// decodes others, so a segment adds at most one level, and fewer if decoding it gives fewer.
func climbs(escaped string) bool {
	depth := 0
	for segment := range strings.SplitSeq(escaped, "/") {
		once, err := url.PathUnescape(segment)
		if err != nil {
			once = segment
		}
		full := unmask(once)
		rise, lowest, named, ended := 0, 0, false, false
		for part := range strings.FieldsFuncSeq(full, isSlash) {
			switch dotSegment(part) {
			case ".":
			case "..":
				rise--
				lowest = min(lowest, rise)
			default:
				if ended {
					break // a server may drop it with the end of the segment
				}
				named = true
				if full == once { // else a server may see other levels here
					rise++
				}
			}
			ended = ended || strings.ContainsAny(part, terminators)
		}
		if full != once && lowest == 0 && named {
			rise = 1
		}
		if depth+lowest < 0 {
			return true
		}
		depth += min(rise, 1)
	}
	return false
}

// terminators are the characters that end a segment's name for some server.
const terminators = ";?#\x00"

func isSlash(r rune) bool { return r == '/' || r == '\\' }

// dotSegment returns a segment as the most lenient server reads it: without matrix
// parameters, query, fragment, control characters, and the trailing dots and spaces that
// Windows drops.
func dotSegment(segment string) string {
	if end := strings.IndexAny(segment, terminators); end >= 0 && !strings.HasPrefix(segment[end:], "\x00") {
		segment = segment[:end]
	} else if end >= 0 && strings.Trim(segment[:end], ". ") == "" && strings.Count(segment[:end], ".") > 1 {
		return ".."
	}
	visible := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, segment)
	if strings.Trim(visible, ". ") != "" {
		return visible
	}
	if strings.Count(visible, ".") > 1 {
		return ".."
	}
	return "."
}

// unmask decodes a text until nothing is left to decode, in one pass: percent escapes, %u
// escapes of IIS, overlong UTF-8, and lookalikes of dots and slashes.
func unmask(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r == '%' || r >= 0x80 }) {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := range len(text) {
		out = append(out, text[i])
		for size, plain := maskedEnd(out); size > 0; size, plain = maskedEnd(out) {
			out = append(out[:len(out)-size], plain...)
		}
	}
	return string(out)
}

// lookalikes are the characters that NFKC and best-fit tables map to ".", "/", "\\" or "%".
var lookalikes = map[string]string{
	"\u2024": ".", "\u2025": "..", "\u2026": "...", "\ufe52": ".", "\uff0e": ".",
	"\u2044": "/", "\u2215": "/", "\uff0f": "/", "\u29f8": "/",
	"\uff3c": "\\", "\ufe68": "\\", "\u2216": "\\", "\u29f5": "\\", "\uff05": "%",
}

// maskedEnd returns how many bytes at the end of b are an encoded form, and what they
// stand for; 0 if none are.
func maskedEnd(b []byte) (size int, plain string) {
	n := len(b)
	if n >= 3 && b[n-3] == '%' {
		if value, ok := hexValue(b[n-2:]); ok {
			return 3, string([]byte{byte(value)})
		}
	}
	if n >= 6 && b[n-6] == '%' && b[n-5]|0x20 == 'u' {
		if value, ok := hexValue(b[n-4:]); ok {
			return 6, string(rune(value))
		}
	}
	if n < 2 {
		return 0, ""
	}
	last := b[n-1] & 0x3f
	if b[n-1] < 0x80 {
		// This is no continuation byte, but some decoders do not check.
		if b[n-2] == 0xc0 && (last == '.' || last == '/') || b[n-2] == 0xc1 && b[n-1] == '\\'&0x3f {
			return 2, string([]byte{b[n-2]&1<<6 | last})
		}
		return 0, ""
	}
	switch {
	case n >= 2 && (b[n-2] == 0xc0 || b[n-2] == 0xc1):
		return 2, string([]byte{b[n-2]&1<<6 | last})
	case n >= 3 && b[n-3] == 0xe0 && (b[n-2] == 0x80 || b[n-2] == 0x81):
		return 3, string([]byte{b[n-2]&1<<6 | last})
	case n >= 4 && b[n-4] == 0xf0 && b[n-3] == 0x80 && (b[n-2] == 0x80 || b[n-2] == 0x81):
		return 4, string([]byte{b[n-2]&1<<6 | last})
	}
	if n >= 3 {
		if plain, ok := lookalikes[string(b[n-3:])]; ok {
			return 3, plain
		}
	}
	return 0, ""
}

// hexValue reads hexadecimal digits.
func hexValue(digits []byte) (value int, ok bool) {
	for _, d := range digits {
		switch {
		case '0' <= d && d <= '9':
			value = value<<4 | int(d-'0')
		case 'a' <= d|0x20 && d|0x20 <= 'f':
			value = value<<4 | int(d|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return value, true
}
