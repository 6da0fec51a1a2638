package target

import (
	"encoding/json"
	"net/url"

	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// Models maps the model names of clients to those of an endpoint. It is read-only.
type Models struct {
	names  map[string]string // the endpoint's, by the client's
	others string            // the endpoint's name for every other model; empty: it takes no other
	place  dialect.Place     // where requests name their model
}

// NewModels returns a mapping from clients' names to the endpoint's. The key "" is every other model.
func NewModels(names map[string]string, place dialect.Place) *Models {
	return &Models{names, names[""], place}
}

// Takes reports whether the endpoint takes calls for a model. asked is the client's name; empty:
// the call names none, and every endpoint takes it.
func (m *Models) Takes(asked string) bool {
	return asked == "" || m.others != "" || m.names[asked] != ""
}

// name returns the endpoint's name of a model.
func (m *Models) name(asked string) string {
	if name := m.names[asked]; name != "" {
		return name
	}
	return m.others
}

var modelPath = jsondoc.Named("model")

// modelField reads the model from a body.
var modelField, _ = jsondoc.ParseField("model")

// ModelIn returns the model that a JSON body names; empty: none.
func ModelIn(body []byte) string { return modelField.In(body) }

// ModelOf returns the model that a URL names; empty: none.
func ModelOf(u *url.URL) string { return dialect.PathModel(u) }

// EditsBody reports whether the target changes the bodies of requests.
func (t *Target) EditsBody() bool {
	return t.Edits != nil || t.Models != nil && t.Models.place == dialect.InBody
}

// rename puts the endpoint's name of a model into a body.
func (m *Models) rename(body []byte, asked string) []byte {
	if asked == "" {
		return body
	}
	quoted, _ := json.Marshal(m.name(asked))
	renamed, err := jsondoc.Set(body, modelPath, quoted)
	if err != nil { // the body is an object
		return body
	}
	return renamed
}

// Path returns the URL of a request with the endpoint's name of the model in its path, if the path
// names one.
func (t *Target) Path(u *url.URL, asked string) *url.URL {
	if t.Models == nil || t.Models.place != dialect.InPath || asked == "" {
		return u
	}
	return dialect.WithPathModel(u, t.Models.name(asked))
}
