package api

import (
	"strconv"
	"strings"
)

// ListNames returns quoted names for an error message, or "none".
func ListNames(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	return strings.Join(quoted, ", ")
}
