package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// A contract is docs/openapi.yaml, parsed so that it can check answers.
type contract struct {
	t        testing.TB
	document map[string]any
	compiler *jsonschema.Compiler
	paths    map[*regexp.Regexp]string
	seen     map[string]bool // path, method, status and media type of checked answers
}

func readContract(t testing.TB) *contract {
	t.Helper()
	text, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var parsed any
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		t.Fatal(err)
	}
	// by way of JSON, for JSON's types of numbers and keys
	asJSON, err := json.Marshal(parsed)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{t: t, document: document.(map[string]any), compiler: jsonschema.NewCompiler(), paths: make(map[*regexp.Regexp]string), seen: make(map[string]bool)}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("openapi.yaml", document); err != nil {
		t.Fatal(err)
	}
	for path := range c.document["paths"].(map[string]any) {
		pattern := "^" + regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, `[^/]+`) + "$"
		c.paths[regexp.MustCompile(pattern)] = path
	}
	return c
}

// at follows keys into the document, and references. It returns the value and its JSON pointer; nil and "" if there
// is none.
func (c *contract) at(keys ...string) (any, string) {
	c.t.Helper()
	var value any = c.document
	pointer := "#"
	for _, key := range keys {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, ""
		}
		if value, ok = object[key]; !ok {
			return nil, ""
		}
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		if object, ok := value.(map[string]any); ok {
			if ref, ok := object["$ref"].(string); ok && len(object) == 1 {
				value, pointer = c.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
		}
	}
	return value, pointer
}

// schema compiles the schema at keys. It returns nil if there is none.
func (c *contract) schema(keys ...string) *jsonschema.Schema {
	c.t.Helper()
	_, pointer := c.at(keys...)
	if pointer == "" {
		return nil
	}
	schema, err := c.compiler.Compile("openapi.yaml" + escapeFragment(pointer))
	if err != nil {
		c.t.Fatalf("%s: %v", pointer, err)
	}
	return schema
}

// escapeFragment writes a JSON pointer as a URI's fragment.
func escapeFragment(pointer string) string {
	return strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D").Replace(pointer)
}

// operation returns the keys of a request's operation in the document.
func (c *contract) operation(method, path string) []string {
	path, _, _ = strings.Cut(path, "?")
	for pattern, template := range c.paths {
		if pattern.MatchString(path) {
			return []string{"paths", template, strings.ToLower(method)}
		}
	}
	c.t.Errorf("the document does not describe %s", path)
	return nil
}

// holds checks an answer against the document.
func (c *contract) holds(method, path string, status int, header http.Header, body string) {
	c.t.Helper()
	operation := c.operation(method, path)
	if status == http.StatusMethodNotAllowed {
		operation[2] = "get" // the document has the 405 at the allowed methods
		if o, _ := c.at(operation...); o == nil {
			operation[2] = "post"
		}
	}
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	schema := c.schema(append(operation, "responses", fmt.Sprint(status), "content", media, "schema")...)
	if schema == nil {
		c.t.Errorf("%s %s: the document has no answer %d with %s", method, path, status, media)
		return
	}
	c.seen[fmt.Sprint(operation[1], " ", operation[2], " ", status, " ", media)] = true
	if media != "application/json" {
		return
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		c.t.Errorf("%s %s: %v in %s", method, path, err, body)
		return
	}
	if err := schema.Validate(value); err != nil {
		c.t.Errorf("%s %s: %v\n%s", method, path, err, body)
	}
}

// accepts reports whether the document allows a request's body.
func (c *contract) accepts(method, path, body string) bool {
	c.t.Helper()
	schema := c.schema(append(c.operation(method, path), "requestBody", "content", "application/json", "schema")...)
	if schema == nil {
		c.t.Fatalf("the document has no body of %s %s", method, path)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	return err == nil && schema.Validate(value) == nil
}

// everything returns all answers of the document, in the form of seen's keys.
func (c *contract) everything() (all []string) {
	for path, item := range c.document["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			for status := range operation.(map[string]any)["responses"].(map[string]any) {
				content, _ := c.at("paths", path, method, "responses", status, "content")
				for media := range content.(map[string]any) {
					all = append(all, fmt.Sprint(path, " ", method, " ", status, " ", media))
				}
			}
		}
	}
	return all
}

// TestOpenAPI checks real answers of every kind against docs/openapi.yaml. Each answer that it lists must occur, and a
// request body must be accepted if and only if the document allows it.
func TestOpenAPI(t *testing.T) {
	c := readContract(t)
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	alone := strings.Replace(site(quick+"\n\thealth {\n\t\tinterval 1s\n\t}\n\tsla {\n\t\tavailability 99.9%\n\t\tlatency p95 1s\n\t}", one, two, three), "endpoint http://"+three.address+" {",
		"endpoint http://user:secret@"+three.address+"/v1 {\n\t\theader X-Api-Key sesame", 1)
	p := startCaddyWith(t, fleetOfOne, alone)
	send := func(method, path, body string, header ...string) int {
		t.Helper()
		status, answered, text := p.exchange(method, path, body, header...)
		c.holds(method, path, status, answered, text)
		return status
	}

	// a pool whose status has many fields: one fails, two is drained, three is held
	one.answer(http.StatusServiceUnavailable)
	p.order(http.MethodPatch, "api/endpoints/three", `{"priority":1,"weight":100,"for":"1h","reason":"load"}`)
	three.answer(http.StatusTooManyRequests, "Retry-After", "60")
	eventually(t, "one is open and three is held", func() bool {
		p.get()
		e := p.endpoint("api", "one")
		return e.State == "open" && e.Check != nil && e.Check.Sent > 0 && !p.endpoint("api", "three").HeldUntil.IsZero()
	})
	p.order(http.MethodPost, "api/endpoints/two/drain", `{"for":"1h","reason":"an upgrade"}`)

	if err := p.loadWith(fleetOfOne, alone); err != nil { // a start compares the endpoints with the objective
		t.Fatal(err)
	}
	eventually(t, "the SLA status of one has its failures", func() bool { s := p.one("one").SLA; return s != nil && s.Failed > 0 })
	if e := p.endpoint("api", "one"); e.SLA.Availability.Met || e.SLA.Target != 1 {
		t.Errorf("the SLA status of one: %+v", e.SLA)
	}

	const (
		pool     = "/failover/pools/api"
		endpoint = pool + "/endpoints/one"
	)
	gets := []string{"/failover/pools", pool, endpoint, pool + "/endpoints/two", pool + "/endpoints/three",
		"/failover/fleet", "/failover/events?where=fleet", "/failover/events", "/failover/events?pool=api&limit=5&since=1h",
		"/failover/incidents", "/failover/incidents?pool=api&limit=5",
		"/failover/report", "/failover/report?format=md", "/failover/report?format=html&from=1d", "/failover/report?pool=api&format=csv"}
	for _, path := range gets {
		if status := send(http.MethodGet, path, ""); status != 200 {
			t.Errorf("GET %s: %d", path, status)
		}
		if status := send(http.MethodDelete, path, ""); status != 405 {
			t.Errorf("DELETE %s: %d", path, status)
		}
		send(http.MethodGet, strings.ReplaceAll(path, "?", "?x=y&"), "")
		path, _, _ = strings.Cut(path, "?")
		send(http.MethodGet, path+"?unknown=1", "")
	}
	for _, path := range []string{"/failover/events", "/failover/pools", pool, endpoint} {
		stream := p.open(http.MethodGet, path, "", "Accept", "text/event-stream")
		stream.Body.Close()
		c.holds(http.MethodGet, path, stream.StatusCode, stream.Header, "")
	}
	for _, path := range []string{"/failover/pools/x", pool + "/endpoints/x", "/failover/events?pool=x", "/failover/incidents?pool=x", "/failover/report?pool=x"} {
		if status := send(http.MethodGet, path, ""); status != 404 {
			t.Errorf("GET %s: %d", path, status)
		}
	}

	bodies := []string{`{}`, `{"reason":"why"}`, `{"for":"10m"}`, `{"for":"10m","reason":""}`, `{"for":10}`, `{"x":1}`, `[]`, `null`, `"x"`,
		`{"reason":null}`, `{"weight":1}`, `{"weight":0}`, `{"weight":null}`, `{"weight":-1}`, `{"weight":"1"}`, `{"priority":1}`,
		`{"priority":0}`, `{"priority":1.5}`, `{"priority":null,"weight":2.5}`, `{"where":"here"}`, `{"where":"fleet","reason":"x"}`, `{"where":"x"}`, `{"where":null}`, `{"where":"here","weight":1}`, `{"priority":2,"for":"1m","reason":"x"}`,
		`{"reason":"` + strings.Repeat("x", 501) + `"}`}
	order := func(method, path string) {
		t.Helper()
		for _, body := range bodies {
			status := send(method, path, body)
			if taken := status == 200; taken != c.accepts(method, path, body) || !taken && status != 400 {
				t.Errorf("%s %s %.60s: got %d, and the document says %v", method, path, body, status, c.accepts(method, path, body))
			}
		}
		for path, want := range map[string]int{
			path:                                    413,
			strings.Replace(path, "one", "four", 1): 404,
		} {
			body := strings.Repeat(" ", 16<<10+1)
			if want == 404 {
				body = `{"weight":1}`
				if method == http.MethodPost {
					body = `{}`
				}
			}
			if status := send(method, path, body); status != want {
				t.Errorf("%s %s: got %d, want %d", method, path, status, want)
			}
		}
	}
	order(http.MethodPatch, endpoint)
	for _, action := range []string{"drain", "enable", "trip", "reset"} {
		order(http.MethodPost, endpoint+"/"+action)
		if status := send(http.MethodGet, endpoint+"/"+action, ""); status != 405 {
			t.Errorf("GET %s: %d", action, status)
		}
	}
	send(http.MethodGet, "/failover/events", "")
	send(http.MethodGet, "/failover/pools", "")
	send(http.MethodGet, pool, "")
	for _, path := range []string{"/failover/pools/%2E%2E", "/failover/pools/%2E%2E/endpoints/one"} {
		send(http.MethodGet, path, "")
	}
	p.reload(alone)
	if status := send(http.MethodGet, "/failover/fleet", ""); status != 404 {
		t.Errorf("without a fleet: %d", status)
	}
	for _, action := range []string{"", "/drain", "/enable", "/trip", "/reset"} {
		method, body := http.MethodPost, `{"where":"fleet"}`
		if action == "" {
			method, body = http.MethodPatch, `{"where":"fleet","weight":2}`
		}
		if status := send(method, endpoint+action, body); status != 409 {
			t.Errorf("%s %s for the fleet without one: %d", method, action, status)
		}
	}
	prose, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for path := range c.document["paths"].(map[string]any) {
		if !strings.Contains(string(prose), "`"+path) && !strings.Contains(string(prose), " "+path) {
			t.Errorf("docs/api.md does not describe %s", path)
		}
	}
	for _, answer := range c.everything() {
		if !c.seen[answer] {
			t.Errorf("the document has an answer that did not occur: %s", answer)
		}
	}
}
