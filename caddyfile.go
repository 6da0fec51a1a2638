package failover

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/target"
)

func init() {
	httpcaddyfile.RegisterDirective("failover", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("failover", httpcaddyfile.Before, "reverse_proxy")
}

// parseDirective sets up a reverse_proxy handler with a failover policy. Syntax:
//
//	failover [<matcher>] {
//	    endpoint <base-url> {
//	        <endpoint options>
//	    }
//	    <pool options>
//	    <reverse_proxy options>
//	}
//
// [Policy.UnmarshalCaddyfile] lists the endpoint options and the pool options. parseDirective passes
// all other options to reverse_proxy.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	at := here(h.Dispenser)
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, at.wrap(err)
	}
	h.Next() // ExtractMatcherSet has gone back to before the directive's name
	d := h.NewFromNextSegment()
	r := &reader{
		matcher: func(d *caddyfile.Dispenser) (caddy.ModuleMap, bool, error) {
			inside := h
			inside.Dispenser = d
			matcher, matched, err := inside.MatcherToken()
			return matcher, matched, wrap(d, err)
		},
		seen:  make(map[string]int),
		names: make(map[string]int),
	}
	policy := &Policy{DefinedAt: fmt.Sprintf("%s:%d:%s", at.file, at.line, asDirective)}
	rest, err := r.directive(d, policy)
	if err != nil {
		return nil, err
	}
	if err := policy.checkAPIWords(); err != nil {
		return nil, err
	}
	d = caddyfile.NewDispenser(rest)

	handler := new(reverseproxy.Handler)
	for _, e := range policy.Endpoints {
		handler.Upstreams = append(handler.Upstreams, &reverseproxy.Upstream{Dial: e.Upstream})
	}
	if err := handler.UnmarshalCaddyfile(d); err != nil {
		if word := d.Val(); strings.HasPrefix(err.Error(), "unrecognized subdirective "+word) {
			return nil, d.Errf("unknown option %s of failover%s", word, suggestOption(word, "failover", slices.Values(append(slices.Clone(words["failover"]), ofProxy...))))
		}
		return nil, err
	}
	if err := handler.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	if len(handler.Upstreams) == 0 && handler.DynamicUpstreamsRaw == nil {
		return nil, at.wrap(errors.New("failover needs at least one endpoint"))
	}
	if handler.LoadBalancing == nil {
		handler.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	if handler.Rewrite == nil {
		policy.warnOfPaths(matcher)
	}
	handler.LoadBalancing.SelectionPolicyRaw = caddyconfig.JSONModuleObject(policy, "policy", "failover", nil)
	return h.NewRoute(matcher, handler), nil
}

// directive reads the options of the policy from a failover directive, and returns the directive with
// all other options, for reverse_proxy.
func (r *reader) directive(d *caddyfile.Dispenser, p *Policy) (rest caddyfile.Segment, err error) {
	for d.Next() {
		rest = append(rest, d.Token())
		if d.NextArg() {
			switch word := d.Val(); {
			case strings.HasPrefix(word, "/"):
				return nil, d.Errf("unexpected %q: the directive takes one path; write a named matcher for several, as in @api path /v1/* %[1]s", word)
			case strings.Contains(word, "*") && !strings.Contains(word, "://"):
				return nil, d.Errf("unexpected %q: a path matcher begins with a slash, as in /%[1]s", word)
			}
			return nil, d.Errf("unexpected %q: write each endpoint in the block, as endpoint <base-url>", d.Val())
		}
		for d.NextBlock(0) {
			word := d.Val()
			if len(rest) == 1 {
				d.Prev()
				rest = append(rest, d.Token()) // the opening brace
				d.Next()
			}
			if word == "lb_policy" {
				return nil, d.Errf("lb_policy %s: the policy of a failover directive is failover", strings.Join(d.RemainingArgs(), " "))
			}
			_, own := poolOptions[word]
			if !own && word != "endpoint" {
				if err := refuseOption(d, word); err != nil {
					return nil, err
				}
				rest = append(rest, d.NextSegment()...)
				continue
			}
			option := d.NewFromNextSegment()
			option.Next()
			if word == "endpoint" {
				err = r.endpoint(option, p)
			} else {
				err = readOption(r, option, "failover", poolOptions, p, r.seen)
			}
			if err != nil {
				return nil, err
			}
		}
		if len(rest) > 1 {
			rest = append(rest, d.Token()) // the closing brace
		}
	}
	return rest, nil
}

// refuseOption refuses options of reverse_proxy and of the policy for which the directive has other
// words.
func refuseOption(d *caddyfile.Dispenser, word string) error {
	if !slices.Contains([]string{"upstream", "to", "failover", "reverse_proxy"}, word) {
		return nil
	}
	switch args := d.RemainingArgs(); word {
	case "upstream":
		return d.Errf("unknown option upstream: the failover directive has endpoint <base-url>")
	case "to":
		var advice []string
		for _, address := range args {
			if !strings.Contains(address, "://") {
				address = "http://" + address
			}
			advice = append(advice, "endpoint "+address)
		}
		return d.Errf("to %s: the failover directive has an endpoint on each line; write %s", strings.Join(args, " "), strings.Join(advice, ", "))
	case "failover":
		return d.Errf("failover is inside failover: remove it; the policy of a reverse_proxy is lb_policy failover")
	case "reverse_proxy":
		return d.Errf("reverse_proxy is inside failover, which is a reverse_proxy itself: write endpoint <base-url> for each upstream")
	}
	return nil
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens. Syntax:
//
//	lb_policy failover {
//	    name               <pool>
//	    upstream <address> {
//	        name         <name>
//	        url          <base-url>
//	        key          <key>
//	        model        [<asked>] <name>
//	        priority     <n>
//	        weight       <n>
//	        schedule     <cron> <duration> {
//	            drain
//	            weight   <n>
//	            priority <n>
//	            zone     <name>
//	        }
//	        header       [+|-]<field> [<value>]
//	        set_json     <path> <value> [optional]
//	        timeout      [<matcher>] <duration>
//	        max_requests <n>
//	        limit        <n> requests|tokens per <duration> [burst <n>]
//	        quota        endpoint|client
//	        health       off | <METHOD> <uri> | grpc [<service>]
//	    }
//	    api                openai|anthropic|gemini|jsonrpc|grpc
//	    quota              endpoint|client
//	    client_credentials strip|pass
//	    balance            weighted|least_latency|least_requests
//	    affinity           <text>|json <path>|client_ip|cookie [<name> [<secret>]]
//	    scope              <text>|json <path>|path_model|grpc_service|off
//	    overflow           strict|<factor>
//	    all_down           fail_fast|try_anyway|wait <duration> [<most>]
//	    timeout            [<matcher>] <duration>
//	    idle_timeout       <duration>
//	    commit             headers|first_byte|first_event|complete [<size>]
//	    failure_status     <codes...>
//	    answer             <status> [json <path>] [<regexp>] as failure|held|denied|next|ok
//	    next_on            <status> [<body-regexp>]
//	    stream_error
//	    standby_share      <ratio>
//	    breaker            off | {
//	        consecutive_failures <n>
//	        failure_ratio        <ratio>
//	        min_requests         <n>
//	        window               <duration>
//	        slow_ratio           <ratio>
//	        slow_after           <duration>
//	        slow_factor          <factor>
//	        open_for             <duration>
//	        open_max             <duration>
//	        start                <ratio>
//	        step                 <duration>
//	    }
//	    health             off | [grpc [<service>]] {
//	        uri           <uri>
//	        method        <METHOD>
//	        port          <n>
//	        interval      <duration>
//	        fast_interval <duration>
//	        timeout       <duration>
//	        passes        <n>
//	        fails         <n>
//	        expect_status <codes...>
//	        expect_body   <regexp>
//	        header        <field> <value>
//	        body          <text>
//	    }
//	    sla                {
//	        availability <ratio>
//	        latency      p<percent> <duration>
//	        window       <duration>
//	    }
//	    retry              off | {
//	        attempts      <n>
//	        methods       idempotent|any|<methods...>
//	        same_endpoint <n>
//	        wait_retry_after <duration>
//	        backoff       <base> [<cap>]
//	        budget        <ratio> [<floor>]
//	        deadline      <duration>
//	        buffer        <size>
//	        hedge         <delay>|p<NN> [max <ratio>]
//	    }
//	}
//
// Matchers of timeouts are paths here. The failover directive also knows the site's named matchers.
func (p *Policy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the policy's name
	p.DefinedAt = fmt.Sprintf("%s:%d: failover", d.File(), d.Line())
	if d.NextArg() {
		return d.Errf("unexpected argument %q of the failover policy", d.Val())
	}
	r := &reader{matcher: pathMatcher, seen: make(map[string]int), names: make(map[string]int)}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "upstream":
			err = r.endpoint(d, p)
		case "endpoint":
			err = d.Errf("unknown option endpoint of lb_policy failover: it has upstream <address>, and the failover directive has endpoint <base-url>")
		default:
			err = readOption(r, d, "failover", poolOptions, p, r.seen)
		}
		if err != nil {
			return err
		}
	}
	return p.checkAPIWords()
}

// A reader reads one policy from a Caddyfile.
type reader struct {
	matcher func(*caddyfile.Dispenser) (caddy.ModuleMap, bool, error)
	seen    map[string]int // lines of the pool's options
	names   map[string]int // lines of the endpoints' names
}

// endpoint reads `endpoint <base-url> { ... }` or `upstream <address> { ... }`.
func (r *reader) endpoint(d *caddyfile.Dispenser, p *Policy) error {
	word, at := d.Val(), here(d)
	address, err := argument(d)
	if err != nil {
		return err
	}
	e := new(Endpoint)
	switch {
	case hasPlaceholder(address):
		e.Upstream = address // its value may be a URL
		if strings.Contains(address, "://") {
			e.URL = address
		}
	case strings.Contains(address, "://"):
		u, err := parseBaseURL(address)
		switch {
		case err != nil:
			return d.WrapErr(err)
		case word == "upstream":
			return d.Errf("upstream %s: write upstream %s, as the proxy calls it, and url %[1]s in its block", target.RedactURL(u), dialAddress(u))
		}
		e.URL, e.Upstream = address, dialAddress(u)
	default:
		if e.Upstream, err = parseDial(word, address); err != nil {
			return d.WrapErr(err)
		}
	}
	e.DefinedAt = fmt.Sprintf("%s:%d", at.file, at.line)
	if d.NextArg() {
		extra := d.Val()
		if _, ok := endpointOptions[extra]; ok {
			return d.Errf("unexpected argument %q of an %s: it is an option, which belongs into the endpoint's block", extra, word)
		}
		return d.Errf("unexpected argument %q of an %s", extra, word)
	}
	options := endpointOptions
	if word == "endpoint" {
		options = withoutURL
	}
	if err := readBlock(r, d, word, options, e); err != nil {
		return err
	}
	name := cmp.Or(e.Name, e.Upstream)
	if first, ok := r.names[name]; ok {
		return at.wrap(fmt.Errorf("the name %q is used twice, first by the %s of line %d; give each its own name", name, word, first))
	}
	r.names[name] = at.line
	p.Endpoints = append(p.Endpoints, e)
	return nil
}

// pathMatcher reads `*` or a path as a matcher.
func pathMatcher(d *caddyfile.Dispenser) (caddy.ModuleMap, bool, error) {
	if !d.NextArg() {
		return nil, false, nil
	}
	switch word := d.Val(); {
	case word == "*":
		return nil, true, nil
	case strings.HasPrefix(word, "/"):
		path, err := json.Marshal([]string{word})
		return caddy.ModuleMap{"path": path}, true, err
	case strings.HasPrefix(word, "@"):
		return nil, false, d.Errf("named matcher %s: only the failover directive knows the site's matchers", word)
	}
	return nil, false, nil
}
