package failover

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// referenceFile is the page that lists every JSON field.
const referenceFile = "docs/reference.md"

// TestReferenceIsCurrent compares docs/reference.md with the structs that it describes. With
// -update it writes the page.
func TestReferenceIsCurrent(t *testing.T) {
	page := newReference(t).page()
	if *update {
		if err := os.WriteFile(referenceFile, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != page {
		t.Errorf("%s is stale: run go test -run TestReferenceIsCurrent -update .", referenceFile)
	}
}

// A structDef is a struct of the source, with its documentation.
type structDef struct {
	file    *ast.File
	dir     string // its package's directory, "." for the root
	name    string
	doc     string
	fields  []*ast.Field
	printed string // path of its table in the module's section; "" until it has one
}

// A reference collects the structs of the source, and writes the page.
type reference struct {
	t       *testing.T
	structs map[string]*structDef // by directory and name: ./Policy
	plain   map[string]ast.Expr   // types that are not structs
	modules map[string]*structDef // by Caddy's ID
	out     strings.Builder
}

func newReference(t *testing.T) *reference {
	r := &reference{t: t, structs: map[string]*structDef{}, plain: map[string]ast.Expr{}, modules: map[string]*structDef{}}
	ids := map[string]string{}
	for _, file := range sources(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(file)
		for _, decl := range parsed.Decls {
			switch d := decl.(type) {
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					ts, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					if s, ok := ts.Type.(*ast.StructType); ok {
						doc := ts.Doc
						if doc == nil {
							doc = d.Doc
						}
						r.structs[dir+"/"+ts.Name.Name] = &structDef{file: parsed, dir: dir, name: ts.Name.Name, doc: joined(doc.Text()), fields: s.Fields.List}
					} else {
						r.plain[dir+"/"+ts.Name.Name] = ts.Type
					}
				}
			case *ast.FuncDecl:
				if id := moduleID(d); id != "" {
					ids[id] = dir + "/" + receiver(d)
				}
			}
		}
	}
	for id, name := range ids {
		if s := r.structs[name]; s != nil && slices.ContainsFunc(s.fields, func(f *ast.Field) bool { return jsonName(f) != "" }) {
			r.modules[id] = s
		}
	}
	if len(r.modules) < 3 {
		t.Fatalf("only these Caddy modules have JSON fields: %v", r.modules)
	}
	return r
}

// moduleID returns the ID that a method CaddyModule returns.
func moduleID(d *ast.FuncDecl) (id string) {
	if d.Name.Name != "CaddyModule" || d.Recv == nil {
		return ""
	}
	ast.Inspect(d, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok && fmt.Sprint(kv.Key) == "ID" {
			if lit, ok := kv.Value.(*ast.BasicLit); ok {
				id, _ = strconv.Unquote(lit.Value)
			}
		}
		return true
	})
	return id
}

func receiver(d *ast.FuncDecl) string {
	e := d.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	return fmt.Sprint(e)
}

// joined returns a doc comment on one line, with its lists and paragraphs.
func joined(doc string) string { return strings.Join(strings.Fields(doc), " ") }

// jsonName returns a field's name in JSON; "" if it has none.
func jsonName(f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	tag, _ := strconv.Unquote(f.Tag.Value)
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
	if name == "-" {
		return ""
	}
	return name
}

func (r *reference) page() string {
	r.out.WriteString(`# JSON reference

[Pools](#httpreverse_proxyselection_policiesfailover) · [Endpoints](#endpoints) · [Breaker](#breaker) · [Health checks](#health) · [Retries](#retry) · [SLA](#sla) ·
[Global options](#failover) · [Fleet](#fleet) · [Dashboard](#httphandlersfailover_dashboard)

Every JSON field of the plugin's modules. A test writes this page from the source
(` + "`go test -run TestReferenceIsCurrent -update .`" + `); edit the comments of the fields, not this page.
[configuration.md](configuration.md) explains the options and shows how the Caddyfile writes them.

A *duration* is a string such as ` + "`\"500ms\"` or `\"1m30s\"`" + `, or a number of nanoseconds; above 0, it is at least 100 µs. Unless a text says otherwise, 0, an empty
string and an empty list mean the same as leaving the field out.
`)
	ids := []string{"http.reverse_proxy.selection_policies.failover", "failover", "http.handlers.failover_dashboard"}
	for id := range r.modules {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids[3:])
	for _, id := range ids {
		s := r.modules[id]
		if s == nil {
			r.t.Fatalf("there is no module %s", id)
		}
		for _, s := range r.structs {
			s.printed = ""
		}
		fmt.Fprintf(&r.out, "\n## `%s`\n", id)
		r.table(s, "")
	}
	return r.out.String()
}

var (
	defaultText  = regexp.MustCompile(`\s*Default: (.+?)\.(\s|$)`)
	requiredText = regexp.MustCompile(`\s*Required\.(\s|$)`)
)

// table writes the fields of s and of the structs below it. at is the path of s in JSON.
func (r *reference) table(s *structDef, at string) {
	s.printed = at
	if s.doc == "" {
		r.t.Errorf("%s/%s has JSON fields and no comment", s.dir, s.name)
	}
	fmt.Fprintf(&r.out, "\n%s\n\n| field | type | default | meaning |\n|---|---|---|---|\n", s.doc)
	type below struct {
		def *structDef
		at  string
	}
	var nested []below
	for _, f := range r.fields(s) {
		name := jsonName(f)
		where := at + name
		kind, def := r.kind(s, f.Type)
		text := joined(f.Doc.Text())
		byDefault := ""
		if m := defaultText.FindStringSubmatch(text); m != nil {
			byDefault = m[1]
			text = strings.TrimSpace(strings.Replace(text, m[0], " ", 1))
		} else if m := requiredText.FindString(text); m != "" {
			byDefault = "required"
			text = strings.TrimSpace(strings.Replace(text, m, " ", 1))
		}
		if byDefault == "" || text == "" {
			r.t.Errorf("the comment of %s (%s.%s) must say what it means, and Default: or Required", where, s.name, f.Names)
		}
		if def != nil {
			if def.printed != "" {
				text += fmt.Sprintf(" Its fields are those of `%s`.", strings.TrimSuffix(def.printed, "."))
			} else if !slices.ContainsFunc(nested, func(b below) bool { return b.def == def }) {
				list := ""
				if strings.HasPrefix(kind, "list") {
					list = "[]"
				}
				nested = append(nested, below{def, where + list + "."})
			}
		}
		fmt.Fprintf(&r.out, "| `%s` | %s | %s | %s |\n", where, kind, cell(byDefault), cell(text))
	}
	for _, b := range nested {
		if b.def.printed == "" {
			fmt.Fprintf(&r.out, "\n### `%s`\n", strings.TrimSuffix(b.at, "."))
			r.table(b.def, b.at)
		}
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// fields returns the fields of s that have a name in JSON, with those of embedded structs.
func (r *reference) fields(s *structDef) (list []*ast.Field) {
	for _, f := range s.fields {
		if len(f.Names) == 0 {
			if _, def := r.kind(s, f.Type); def != nil {
				list = append(list, r.fields(def)...)
			}
			continue
		}
		if jsonName(f) == "" {
			continue
		}
		if len(f.Names) > 1 || f.Doc == nil {
			r.t.Errorf("%s.%v needs a comment of its own", s.name, f.Names)
			continue
		}
		list = append(list, f)
	}
	return list
}

// kind returns the name of the JSON type of a field of s, and the struct that has its fields; nil if
// that is not one of the project's structs.
func (r *reference) kind(s *structDef, e ast.Expr) (string, *structDef) {
	switch e := e.(type) {
	case *ast.StarExpr:
		return r.kind(s, e.X)
	case *ast.ArrayType:
		of, def := r.kind(s, e.Elt)
		return "list of " + of + "s", def
	case *ast.MapType:
		of, def := r.kind(s, e.Value)
		return "object of " + of + "s", def
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "string", nil
		case "bool":
			return "boolean", nil
		case "int", "int64", "uint64":
			return "integer", nil
		case "float64":
			return "number", nil
		}
		return r.named(s, s.dir, e.Name)
	case *ast.SelectorExpr:
		switch name := fmt.Sprintf("%s.%s", e.X, e.Sel); name {
		case "caddy.Duration":
			return "duration", nil
		case "json.RawMessage":
			return "any JSON", nil
		case "caddy.ModuleMap":
			return "object of modules", nil
		case "http.Header":
			return "object of lists of strings", nil
		case "headers.HeaderOps":
			return "[header operations](https://caddyserver.com/docs/json/apps/http/servers/routes/handle/headers/request/)", nil
		case "caddyhttp.RawMatcherSets":
			return "list of [matcher sets](https://caddyserver.com/docs/json/apps/http/servers/routes/match/)", nil
		}
		for _, spec := range s.file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if in, ours := strings.CutPrefix(imported, module+"/"); ours && (path.Base(in) == fmt.Sprint(e.X) || spec.Name != nil && spec.Name.Name == fmt.Sprint(e.X)) {
				return r.named(s, in, e.Sel.Name)
			}
		}
	}
	r.t.Errorf("%s: the page has no word for the type of a field: %T", s.name, e)
	return "", nil
}

func (r *reference) named(s *structDef, dir, name string) (string, *structDef) {
	if def := r.structs[dir+"/"+name]; def != nil {
		return "object", def
	}
	if of := r.plain[dir+"/"+name]; of != nil {
		return r.kind(&structDef{file: s.file, dir: dir, name: name}, of)
	}
	r.t.Errorf("there is no type %s in %s", name, dir)
	return "", nil
}
