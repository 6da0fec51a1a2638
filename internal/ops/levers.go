package ops

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// defaultUser is the placeholder that names the user whom the site has authenticated.
const defaultUser = "{http.auth.user.id}"

// undo ends an operator action that is in force, and the overrides of weight and priority.
// Only the page has it.
const undo = "undo"

// pageActions are the actions of the page.
var pageActions = []string{api.Drain, api.Enable, api.Trip, api.Reset, api.Set, undo}

// A leverRequest is what the page sends: where, which action, and the fields of that action
// as the admin API takes them.
type leverRequest struct {
	Pool     string                     `json:"pool"`
	Endpoint string                     `json:"endpoint"`
	Action   string                     `json:"action"`
	Fields   map[string]json.RawMessage `json:"fields"`
}

// levers carries out operator actions of the page. The page has already refused requests of
// other sites. user is text with placeholders that names who acts; requests for which it is
// empty are refused.
type levers struct{ user string }

// ServeHTTP implements http.Handler. Errors are JSON like those of the admin API.
func (l levers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := l.act(w, r, time.Now())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		status := http.StatusInternalServerError
		if e, ok := errors.AsType[caddy.APIError](err); ok {
			status = e.HTTPStatus
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (l levers) act(w http.ResponseWriter, r *http.Request, now time.Time) (any, error) {
	who := l.userOf(r)
	if who == "" {
		return nil, apiError(http.StatusForbidden, "operator actions need an authenticated user; %s is empty", l.user)
	}
	asked, err := readLever(w, r)
	if err != nil {
		return nil, err
	}
	p := pool.Find(asked.Pool)
	if p == nil {
		return nil, unknownPool(asked.Pool)
	}
	orders, err := asked.orders(p, who, now)
	if err != nil {
		return nil, err
	}
	var answer api.OperatorAnswer
	for _, order := range orders {
		if answer, err = operate(p, asked.Endpoint, order, now); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// userOf returns who sends a request; "" if nobody is authenticated.
func (l levers) userOf(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		repl = caddy.NewReplacer()
	}
	return strings.TrimSpace(api.Printable(repl.ReplaceAll(l.user, "")))
}

func readLever(w http.ResponseWriter, r *http.Request) (asked leverRequest, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return asked, apiError(http.StatusRequestEntityTooLarge, "body: more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return asked, apiError(http.StatusBadRequest, "body: %v", err)
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return asked, apiError(http.StatusBadRequest, "body: %v", err)
	}
	return asked, nil
}

// orders returns the orders that an action of the page stands for. Each has a reason, which
// ends with who acts.
func (asked *leverRequest) orders(p *pool.Pool, who string, now time.Time) (orders []api.Order, err error) {
	fields, err := json.Marshal(asked.Fields)
	if err != nil {
		return nil, err
	}
	bad := func(err error) error { return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err} }
	order := api.Order{Action: asked.Action}
	switch asked.Action {
	case undo:
		order.Action = api.Reset // takes a reason and no duration
	case api.Drain, api.Enable, api.Trip, api.Reset, api.Set:
	default:
		return nil, bad(fmt.Errorf("action: want one of %s, not %q", api.ListNames(pageActions), asked.Action))
	}
	if asked.Fields != nil {
		if err := order.ReadFields(fields); err != nil {
			return nil, bad(err)
		}
	}
	if err := order.Validate(); err != nil {
		return nil, bad(err)
	}
	reason := strings.TrimSpace(order.Reason)
	if reason == "" {
		return nil, bad(errors.New("reason: is needed"))
	}
	order.Reason = signed(reason, who)
	if asked.Action != undo {
		return []api.Order{order}, nil
	}
	for _, e := range p.Status(now).Endpoints {
		if e.Name != asked.Endpoint {
			continue
		}
		if e.Operator != nil {
			orders = append(orders, api.Order{Action: api.Enable, Reason: order.Reason})
		}
		if o := e.Override; o != nil {
			set := api.Order{Action: api.Set, Reason: order.Reason}
			set.Weight.Made, set.Priority.Made = o.Weight != nil, o.Priority != nil
			orders = append(orders, set)
		}
		if len(orders) == 0 {
			return nil, apiError(http.StatusConflict, "there is nothing to undo at endpoint %q", e.Name)
		}
		return orders, nil
	}
	// The error names the endpoints that there are.
	return []api.Order{{Action: api.Enable, Reason: order.Reason}}, nil
}

// signed returns a reason with who gave it, within the largest size of a reason.
func signed(reason, who string) string {
	who = " (" + shortened(who, api.MaxReason/4) + ")"
	return shortened(reason, api.MaxReason-len(who)) + who
}

// shortened returns the start of a text, at most n bytes.
func shortened(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}
