package answer

import (
	"bytes"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// fields looks up the fields of a JSON body as far as it has arrived. Rules whose paths begin with
// the same name share the search for it.
type fields struct {
	doc      document // if the body is an object
	elements [][]byte // if it is a list
	list     bool
	last     state // the state of a rule that matches no element
}

// fieldsOf returns the fields of a body, as far as it has arrived.
func fieldsOf(body []byte, whole bool) *fields {
	body = bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(body) == 0 && !whole:
		return &fields{list: true, last: open}
	case len(body) == 0 || body[0] != '{' && body[0] != '[':
		return &fields{list: true, last: cannot}
	case body[0] == '{':
		return &fields{doc: document{text: body, whole: whole}}
	}
	elements, over := jsondoc.Elements(body, whole)
	f := &fields{elements: elements, list: true, last: open}
	if over {
		f.last = cannot
	}
	return f
}

// match returns the state of a rule. A list matches if one of its elements does or, with First, if
// the first does.
func (f *fields) match(r *Rule) state {
	if !f.list {
		return f.doc.match(r)
	}
	for _, one := range f.elements {
		d := document{text: one, whole: true}
		if s := d.match(r); s == matches || r.First {
			return s
		}
	}
	return f.last
}

// A document is a JSON object, as far as it has arrived.
type document struct {
	text  []byte
	whole bool
	tops  [maxTops]top
}

// A top is where a value begins whose name is the first of a path.
type top struct {
	known bool
	found jsondoc.Found
	at    int
}

// maxTops is how many first names a document remembers the place of.
const maxTops = 4

func (d *document) match(r *Rule) state {
	value, found := d.find(r)
	switch {
	case found == jsondoc.Later:
		return open
	case found == jsondoc.Absent || string(value) == "null" || r.Text != nil && !r.Text.MatchString(jsondoc.Text(value)):
		return cannot
	case r.Unless != nil:
		switch d.match(r.Unless) {
		case open:
			return open
		case matches:
			return cannot
		}
	}
	return matches
}

// find looks up the field of a rule.
func (d *document) find(r *Rule) ([]byte, jsondoc.Found) {
	if r.top >= maxTops {
		return jsondoc.Find(d.text, r.Path, d.whole)
	}
	t := &d.tops[r.top]
	if !t.known {
		t.at, t.found = jsondoc.Begin(d.text, r.Path[:1], d.whole)
		t.known = true
	}
	if t.found != jsondoc.Here {
		return nil, t.found
	}
	return jsondoc.Find(d.text[t.at:], r.Path[1:], d.whole)
}

// numberTops numbers the first names of the rules' paths.
func numberTops(list []Rule) {
	var names []jsondoc.Path
	number := func(r *Rule) {
		if len(r.Path) == 0 {
			return
		}
		for r.top = 0; r.top < len(names); r.top++ {
			if names[r.top].Equal(r.Path[:1]) {
				return
			}
		}
		names = append(names, r.Path[:1])
	}
	for i := range list {
		number(&list[i])
		if list[i].Unless != nil {
			unless := *list[i].Unless // other rules may have the same
			number(&unless)
			list[i].Unless = &unless
		}
	}
}
