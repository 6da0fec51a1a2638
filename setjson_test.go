package failover

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSetJSONIsChecked(t *testing.T) {
	for options, want := range map[string]string{
		"set_json model":            "a value is missing",
		"set_json model a b":        "want optional",
		"set_json model a b c":      "want optional",
		"set_json \"\" a":           "the path is missing",
		"next_on 400":               "unknown option",
		"set_json a optional maybe": "want optional",
	} {
		_, err := tryAdapt("http://:0 {\nfailover {\nendpoint http://a:1 {\n" + options + "\n}\n}\n}")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ":4") {
			t.Errorf("%s: %v", options, err)
		}
	}
}

func TestSetJSONPathsAreChecked(t *testing.T) {
	for path, want := range map[string]string{
		"messages.#.role": "wildcard or a query",
		"a*":              "wildcard or a query",
		"a.b|@reverse":    "wildcard or a query",
		"list.100000000":  "over 1000",
		"a..b":            "a name is empty",
	} {
		err := (&SetJSON{Path: path, Value: json.RawMessage("1")}).validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
