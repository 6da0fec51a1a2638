package api

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable returns text as one line that cannot control a terminal or change the order of what
// it shows. It escapes everything invisible as Go does: control and format characters, such as
// overrides of the writing direction, and bytes that are not UTF-8.
func Printable(text string) string { return escape(text, "", goEscape) }

// PrintableLines is Printable, but keeps line breaks and tabs.
func PrintableLines(text string) string { return escape(text, "\n\t", goEscape) }

// PrintableJSON is Printable for a JSON document, whose meaning it keeps.
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
