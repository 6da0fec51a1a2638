package jsondoc

import "bytes"

// topText returns the text of a member of the outermost object, without looking at each byte of the
// texts before it; ok is false if that does not tell: the name or the text has escapes, the value is
// no text, or the document ends before. The name must be without quotes and backslashes.
func topText(doc []byte, name string) (text []byte, ok bool) {
	at := skipSpace(doc, 0)
	if at == len(doc) || doc[at] != '{' {
		return nil, false
	}
	at++
	for depth := 1; at < len(doc); at++ {
		switch doc[at] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return nil, false
			}
		case '"':
			end, escaped := closingQuote(doc, at)
			if end < 0 {
				return nil, false
			}
			from := at + 1
			at = end
			if depth > 1 {
				continue
			}
			colon := skipSpace(doc, end+1)
			if colon == len(doc) || doc[colon] != ':' {
				continue // a value
			}
			if escaped {
				return nil, false
			}
			at = colon
			if string(doc[from:end]) != name {
				continue
			}
			value := skipSpace(doc, colon+1)
			if value == len(doc) || doc[value] != '"' {
				return nil, false
			}
			if end, escaped = closingQuote(doc, value); end < 0 || escaped {
				return nil, false
			}
			return doc[value+1 : end], true
		}
	}
	return nil, false
}

// closingQuote returns where the quote is that ends the text which begins with the quote at from, and
// whether the text has escapes; -1: nowhere.
func closingQuote(doc []byte, from int) (end int, escaped bool) {
	for at := from + 1; ; {
		n := bytes.IndexByte(doc[at:], '"')
		if n < 0 {
			return -1, false
		}
		end = at + n
		backslashes := 0
		for doc[end-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return end, bytes.IndexByte(doc[from+1:end], '\\') >= 0
		}
		at = end + 1
	}
}
