package command

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// A layout is how text is written.
type layout struct {
	columns int // width of a line
	colours bool
}

// usualColumns is the width of text that does not go to a terminal, unless COLUMNS sets another.
const usualColumns = 80

// leastColumns is the minimum width. A narrower terminal breaks lines by itself.
const leastColumns = 40

// layoutOf returns the layout of text for out. Text has colours if out is a terminal, unless TERM is
// dumb or NO_COLOR is set (https://no-color.org).
func layoutOf(out io.Writer) layout {
	l := layout{columns: usualColumns}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			l.columns = columns
		}
		l.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	} else if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		l.columns = columns
	}
	l.columns = max(l.columns, leastColumns)
	return l
}

// A colour is the parameter of the terminal code SGR (ECMA-48).
type colour string

const (
	bold   colour = "1"
	faint  colour = "2"
	red    colour = "1;31"
	green  colour = "32"
	yellow colour = "33"
)

// paint gives a text a colour, if the layout has colours.
func (l layout) paint(c colour, text string) string {
	if !l.colours || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// columnsOf returns the number of columns that a text takes. Colours take none, and wide characters
// two. The text must have no other terminal codes.
func columnsOf(text string) (n int) {
	for i := 0; i < len(text); {
		if strings.HasPrefix(text[i:], "\x1b[") {
			if end := strings.IndexByte(text[i:], 'm'); end >= 0 {
				i += end + 1
				continue
			}
		}
		for _, r := range text[i:] {
			i += len(string(r))
			n += columnsOfRune(r)
			break
		}
	}
	return n
}

func columnsOfRune(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	if r >= 0x1f300 && r <= 0x1faff { // emoji
		return 2
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// pad adds spaces to a text until it takes n columns. A longer text stays as it is.
func pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-columnsOf(text)))
}

// fill breaks a text into lines of the layout's width. Lines after the first begin with indent. It
// breaks lines at spaces, and a word only if it is too long for a line.
func (l layout) fill(text, indent string) string {
	var b strings.Builder
	lead := len(text) - len(strings.TrimLeft(text, " "))
	b.WriteString(text[:lead])
	at, empty := lead, true // empty: the line has no word yet
	newLine := func() {
		b.WriteString("\n" + indent)
		at, empty = len(indent), true
	}
	gap := 0
	for _, word := range strings.Split(text[lead:], " ") {
		if word == "" {
			gap++
			continue
		}
		n := columnsOf(word)
		if !empty && at+gap+n > l.columns {
			newLine()
		}
		if !empty {
			b.WriteString(strings.Repeat(" ", gap))
			at += gap
		}
		for at+n > l.columns {
			head := headOf(word, l.columns-at)
			b.WriteString(head)
			word = word[len(head):]
			n = columnsOf(word)
			newLine()
		}
		b.WriteString(word)
		at, empty, gap = at+n, false, 1
	}
	return b.String()
}

// headOf returns the beginning of a word that takes at most n columns, but at least one character.
func headOf(word string, n int) string {
	end := 0
	for i := range word {
		if i > 0 && columnsOf(word[:i]) > n {
			break
		}
		end = i
	}
	if end == 0 {
		for i := range word {
			if i > 0 {
				return word[:i]
			}
		}
		return word
	}
	return word[:end]
}

// parts joins parts of a line with two spaces. A part that does not fit begins a new line with indent.
func (l layout) parts(indent string, parts ...string) string {
	var b strings.Builder
	at := 0
	for i, part := range parts {
		n := columnsOf(strings.TrimRight(part, " "))
		switch {
		case i == 0:
		case at+2+n <= l.columns:
			b.WriteString("  ")
			at += 2
		default:
			b.WriteString("\n" + indent)
			at = len(indent)
		}
		text := part
		if at+n > l.columns {
			text = l.fill(strings.Repeat(" ", at)+part, indent)[at:]
			if k := strings.LastIndexByte(text, '\n'); k >= 0 {
				b.WriteString(text)
				at = columnsOf(text[k+1:])
				continue
			}
		}
		b.WriteString(text)
		at += columnsOf(part)
	}
	return trimLines(b.String())
}

// trimLines removes the spaces at the ends of lines.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// A column is a column of a table.
type column struct {
	title string
	drop  int // a table that is too wide leaves out columns with higher numbers first, and never those with 0
}

// A row is a row of a table. Its first cell is a name.
type row struct {
	cells []string
	below []string // lines below the row
}

// table writes a table. It leaves out columns that do not fit. A name that is too long gets its own
// line.
func (l layout) table(b *strings.Builder, indent string, columns []column, rows []row) {
	widths, shown := l.fit(indent, columns, rows)
	line := func(cells []string, c colour) {
		text := indent
		for i, cell := range cells {
			if shown[i] {
				text += pad(cell, widths[i]) + "  "
			}
		}
		b.WriteString(l.paint(c, strings.TrimRight(text, " ")) + "\n")
	}
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	line(titles, faint)
	for _, r := range rows {
		cells := r.cells
		if columnsOf(cells[0]) > widths[0] {
			b.WriteString(l.fill(indent+cells[0], indent) + "\n")
			cells = append([]string{""}, cells[1:]...)
		}
		line(cells, "")
		for _, text := range r.below {
			b.WriteString(l.fill(indent+"  "+text, indent+"    ") + "\n")
		}
	}
}

// readable is the width that a table keeps for names, in columns. Longer names leave out no column.
const readable = 20

// fit returns the widths of a table's columns, and which of them fit the layout. The first column is as
// wide as its longest name that fits beside the others.
func (l layout) fit(indent string, columns []column, rows []row) (widths []int, shown []bool) {
	widths, shown = make([]int, len(columns)), make([]bool, len(columns))
	longest := 0 // name
	for i, c := range columns {
		shown[i], widths[i] = true, columnsOf(c.title)
		for _, r := range rows {
			if n := columnsOf(r.cells[i]); i > 0 {
				widths[i] = max(widths[i], n)
			} else {
				longest = max(longest, n)
			}
		}
	}
	rest := func() (n int) {
		for i := range columns {
			if i > 0 && shown[i] {
				n += 2 + widths[i]
			}
		}
		return n
	}
	for len(indent)+max(widths[0], min(longest, readable))+rest() > l.columns {
		last := 0
		for i, c := range columns {
			if shown[i] && c.drop > columns[last].drop {
				last = i
			}
		}
		if last == 0 {
			break
		}
		shown[last] = false
	}
	room := max(widths[0], l.columns-len(indent)-rest())
	for _, r := range rows {
		if n := columnsOf(r.cells[0]); n <= room {
			widths[0] = max(widths[0], n)
		}
	}
	return widths, shown
}
