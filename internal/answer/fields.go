package answer

import (
	"bytes"
	"slices"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// fields looks up the fields of a JSON body as far as it has arrived. All rules share one search for
// the members of each object.
type fields struct {
	tops     []string // the first names of the rules' paths, by their numbers
	doc      document // if the body is an object
	elements [][]byte // if it is a list
	list     bool
	last     state // the state of a rule that matches no element
}

// fieldsOf returns the fields of a body, as far as it has arrived.
func fieldsOf(tops []string, body []byte, whole bool) *fields {
	body = bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(body) == 0 && !whole:
		return &fields{list: true, last: open}
	case len(body) == 0 || body[0] != '{' && body[0] != '[':
		return &fields{list: true, last: cannot}
	case body[0] == '{':
		f := &fields{doc: document{text: body, whole: whole}}
		f.doc.scan(tops)
		return f
	}
	elements, over := jsondoc.Elements(body, whole)
	f := &fields{tops: tops, elements: elements, list: true, last: open}
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
		d.scan(f.tops)
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
	at    [maxTops]int  // offsets of the values of the first names; 0: not found
	rest  jsondoc.Found // what is known of names that were not found
	looks [maxPaths]lookup
}

// A lookup is what is known of the value at a path.
type lookup struct {
	done  bool
	found jsondoc.Found
	value []byte
}

const (
	maxTops  = 16 // how many first names one search looks for
	maxPaths = 16 // how many paths are looked up once for all of their rules
)

// scan finds the members with the given names.
func (d *document) scan(tops []string) {
	tops = tops[:min(len(tops), maxTops)]
	d.rest = jsondoc.Arrived(d.text, d.whole, func(name []byte, at int) bool {
		for i, top := range tops {
			if d.at[i] == 0 && string(name) == top {
				d.at[i] = at
			}
		}
		return true
	})
}

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
func (d *document) find(r *Rule) (value []byte, found jsondoc.Found) {
	if r.place >= maxPaths {
		return d.lookUp(r)
	}
	l := &d.looks[r.place]
	if !l.done {
		l.done = true
		l.value, l.found = d.lookUp(r)
	}
	return l.value, l.found
}

func (d *document) lookUp(r *Rule) ([]byte, jsondoc.Found) {
	switch {
	case r.top >= maxTops:
		return jsondoc.Find(d.text, r.Path, d.whole)
	case d.at[r.top] == 0:
		return nil, d.rest
	}
	return jsondoc.Find(d.text[d.at[r.top]:], r.Path[1:], d.whole)
}

// numberPaths numbers the rules' paths and their first names, and returns the names.
func numberPaths(list []Rule) (names []string) {
	var paths []jsondoc.Path
	number := func(r *Rule) {
		if len(r.Path) == 0 {
			return
		}
		if r.top = slices.Index(names, r.Path.First()); r.top < 0 {
			r.top = len(names)
			names = append(names, r.Path.First())
		}
		if r.place = slices.IndexFunc(paths, r.Path.Equal); r.place < 0 {
			r.place = len(paths)
			paths = append(paths, r.Path)
		}
	}
	for i := range list {
		number(&list[i])
		if list[i].Unless != nil {
			unless := *list[i].Unless // other rules may have the same
			number(&unless)
			list[i].Unless = &unless
		}
	}
	return names
}
