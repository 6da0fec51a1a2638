package api

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What a Caddy says may be others' text: names, an operator's reason, an error's. None of
// it steers the terminal, or changes the order in which its characters are shown.

// Printable returns text in one line, with all that cannot be seen escaped as in Go: control
// and format characters, such as the overrides of the writing direction, and bytes that
// are no UTF-8.
func Printable(text string) string { return escape(text, "", goEscape) }

// PrintableLines leaves line breaks and tabs as they are.
func PrintableLines(text string) string { return escape(text, "\n\t", goEscape) }

// PrintableJSON does the same for a JSON document, which says the same afterwards.
func PrintableJSON(text string) string { return escape(text, "\n\t\r", jsonEscape) }

func escape(text, except string, with func(r rune, raw string) string) string {
	var b strings.Builder
	for i, size := 0, 0; i < len(text); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		raw := text[i : i+size]
		if (r != utf8.RuneError || size > 1) && (strconv.IsGraphic(r) || strings.ContainsRune(except, r)) {
			b.WriteString(raw)
		} else {
			b.WriteString(with(r, raw))
		}
	}
	return b.String()
}

func goEscape(r rune, raw string) string {
	if len(raw) == 1 {
		return fmt.Sprintf(`\x%02x`, raw[0])
	}
	quoted := strconv.QuoteRuneToASCII(r)
	return quoted[1 : len(quoted)-1]
}

func jsonEscape(r rune, raw string) string {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
