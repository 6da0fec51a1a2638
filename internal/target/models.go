package target

import (
	"encoding/json"
	"net/url"

	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// Models are what an endpoint calls models. They are read-only.
type Models struct {
	names  map[string]string // by what clients ask for
	others string            // what it calls every other; empty: it takes no other
	place  dialect.Place
}

// NewModels are names by what clients ask for, which is empty for every other model.
func NewModels(names map[string]string, place dialect.Place) *Models {
	return &Models{names, names[""], place}
}

// Takes reports whether the endpoint takes calls for a model. Every endpoint takes calls that
// name none.
func (m *Models) Takes(asked string) bool {
	return asked == "" || m.others != "" || m.names[asked] != ""
}

// name is what the endpoint calls a model.
func (m *Models) name(asked string) string {
	if name := m.names[asked]; name != "" {
		return name
	}
	return m.others
}

var modelPath = jsondoc.Named("model")

// modelField reads the field of a body that names its model.
var modelField, _ = jsondoc.ParseField("model")

// ModelIn is the model that a JSON body names; empty: none.
func ModelIn(body []byte) string { return modelField.In(body) }

// ModelOf is the model that a URL names; empty: none.
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

// Path is the URL of a request, by the endpoint's name of the model that its path names.
func (t *Target) Path(u *url.URL, asked string) *url.URL {
	if t.Models == nil || t.Models.place != dialect.InPath || asked == "" {
		return u
	}
	return dialect.WithPathModel(u, t.Models.name(asked))
}
