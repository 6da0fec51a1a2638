package failover

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/apifailover/caddy-failover/internal/api"
)

// An option is an option in a Caddyfile.
type option[T any] struct {
	// read reads the arguments and the block into a T. The dispenser is at the option's name.
	read       func(*reader, *caddyfile.Dispenser, T) error
	repeatable bool
}

// readBlock reads a block of options. of names the block in errors.
func readBlock[T any](r *reader, d *caddyfile.Dispenser, of string, options map[string]option[T], into T) error {
	seen := make(map[string]int)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := readOption(r, d, of, options, into, seen); err != nil {
			return err
		}
	}
	return nil
}

// readOption reads one option. It is an error if the option is unknown, if it appears again and is
// not repeatable, or if its line has more words.
func readOption[T any](r *reader, d *caddyfile.Dispenser, of string, options map[string]option[T], into T, seen map[string]int) error {
	name, line := d.Val(), d.Line()
	o, ok := options[name]
	if !ok {
		return d.Errf("unknown option %s of %s%s", name, of, suggestOption(name, of, maps.Keys(options)))
	}
	if first, ok := seen[name]; ok && !o.repeatable {
		return d.Errf("option %s is given twice, first on line %d", name, first)
	}
	seen[name] = line
	if err := o.read(r, d, into); err != nil {
		return err
	}
	if d.NextArg() {
		advice := ""
		if name == "name" {
			advice = "; write a name with spaces in quotes"
		}
		return d.Errf("unexpected argument %q of %s%s", d.Val(), name, advice)
	}
	if d.Val() != "}" && d.NextBlock(d.Nesting()) {
		return d.Errf("unexpected %q: %s has no block", d.Val(), name)
	}
	return nil
}

// offOrBlock reads `<name> off` or `<name> { ... }`.
func offOrBlock[T any](r *reader, d *caddyfile.Dispenser, name string, off *bool, options map[string]option[T], into T) error {
	if d.NextArg() {
		if d.Val() != "off" {
			advice := suggest(d.Val(), "off")
			if _, err := strconv.Atoi(d.Val()); err == nil && name == "retry" {
				advice = fmt.Sprintf("; write retry { attempts %s }, on lines of their own", d.Val())
			}
			if _, known := options[d.Val()]; known {
				advice = fmt.Sprintf("; write %s { %s ... }, on lines of their own", name, d.Val())
			}
			return d.Errf("%s %s: want off or a block%s", name, d.Val(), advice)
		}
		*off = true
		return noBlock(d, name)
	}
	return readBlock(r, d, name, options, into)
}

// noBlock refuses options in a block after `<name> off`.
func noBlock(d *caddyfile.Dispenser, name string) error {
	if d.CountRemainingArgs() > 0 {
		return nil // the caller refuses them
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("%s off: remove off, or the block, which has no effect", name)
	}
	return nil
}

// timeout reads `timeout [<matcher>] <duration>` into plain, or into rules if there is a matcher
// other than `*`.
func (r *reader) timeout(d *caddyfile.Dispenser, plain *caddy.Duration, rules *[]*Timeout) error {
	if d.CountRemainingArgs() == 0 {
		return missing(d)
	}
	matcher, matched, err := r.matcher(d)
	if err != nil {
		return err
	}
	if matched && len(matcher) == 0 {
		matched = false // `*`
		if !d.NextArg() {
			return missing(d)
		}
	}
	if !matched {
		word := d.Val()
		if strings.ContainsAny(word, "/*") && d.CountRemainingArgs() > 0 {
			return d.Errf("timeout: invalid matcher %q: want a path that begins with a slash", word)
		}
		if *plain != 0 {
			return d.Errf("option timeout is given twice for all requests")
		}
		if *plain, err = parseDuration(d, "timeout"); err == nil && d.NextArg() {
			return d.Errf("unexpected argument %q of timeout; a matcher comes first: timeout %[1]s %s", d.Val(), word)
		}
		return err
	}
	rule := &Timeout{MatcherSetsRaw: caddyhttp.RawMatcherSets{matcher}}
	for _, other := range *rules {
		if reflect.DeepEqual(other.MatcherSetsRaw, rule.MatcherSetsRaw) {
			return d.Errf("option timeout is given twice for %s", d.Val())
		}
	}
	if _, err := argument(d); err != nil {
		return err
	}
	if rule.Timeout, err = parseDuration(d, "timeout"); err != nil {
		return err
	}
	*rules = append(*rules, rule)
	return nil
}

// text reads one word.
func text[T any](field func(T) *string) option[T] {
	return option[T]{read: func(_ *reader, d *caddyfile.Dispenser, into T) (err error) {
		*field(into), err = argument(d)
		return err
	}}
}

// fixed reads one word in which Caddy replaces no placeholders.
func fixed[T any](field func(T) *string) option[T] {
	return option[T]{read: func(r *reader, d *caddyfile.Dispenser, into T) error {
		option := d.Val()
		if err := text(field).read(r, d, into); err != nil {
			return err
		}
		return wrap(d, refusePlaceholder(option, *field(into)))
	}}
}

// refusePlaceholder refuses a placeholder of the environment or of a file in an option that keeps its text.
func refusePlaceholder(option, word string) error {
	if hasPlaceholder(word) {
		return fmt.Errorf("invalid %s %q: placeholders have no value there%s", option, word, adviseVariable(word))
	}
	return nil
}

// choice reads one of several words.
func choice[T any](field func(T) *string, words ...string) option[T] {
	return option[T]{read: func(_ *reader, d *caddyfile.Dispenser, into T) error {
		option := d.Val()
		word, err := argument(d)
		if err != nil {
			return err
		}
		*field(into) = word
		return wrap(d, oneOf(option, word, words...))
	}}
}

// count reads a whole number of least or more.
func count[T any](field func(T) *int, least int) option[T] {
	return option[T]{read: func(_ *reader, d *caddyfile.Dispenser, into T) error {
		option := d.Val()
		word, err := argument(d)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(word)
		if err != nil || n < least {
			return d.Errf("invalid %s %q: want a whole number of %d or more%s", option, word, least, adviseVariable(word))
		}
		*field(into) = n
		return nil
	}}
}

// weight reads a weight.
func weight[T any](field func(T) **float64) option[T] {
	return option[T]{read: func(_ *reader, d *caddyfile.Dispenser, into T) error {
		word, err := argument(d)
		if err != nil {
			return err
		}
		value, err := parseNumber(word)
		if want := api.WeightRange(value); err == nil && want != "" {
			err = fmt.Errorf("want %s", want)
		}
		*field(into) = &value
		return wrapWord(d, "weight", word, err)
	}}
}

// countOrNone reads a count whose default is not 0. 0 turns something off.
func countOrNone[T any](field func(T) **int) option[T] {
	return option[T]{read: func(r *reader, d *caddyfile.Dispenser, into T) error {
		n := new(int)
		*field(into) = n
		return count(func(T) *int { return n }, 0).read(r, d, into)
	}}
}

// ratio reads a ratio from 0 to 1.
func ratio[T any](field func(T) *float64) option[T] {
	return option[T]{read: func(_ *reader, d *caddyfile.Dispenser, into T) (err error) {
		*field(into), err = ratioArgument(d)
		return err
	}}
}

// ratioOrNone reads a ratio whose default is not 0. 0 turns something off.
func ratioOrNone[T any](field func(T) **float64) option[T] {
	return option[T]{read: func(r *reader, d *caddyfile.Dispenser, into T) error {
		value := new(float64)
		*field(into) = value
		return ratio(func(T) *float64 { return value }).read(r, d, into)
	}}
}

// positiveRatio reads a ratio above 0.
func positiveRatio[T any](field func(T) *float64) option[T] {
	return option[T]{read: func(r *reader, d *caddyfile.Dispenser, into T) error {
		option := d.Val()
		if err := ratio(field).read(r, d, into); err != nil {
			return err
		}
		if *field(into) == 0 {
			return d.Errf("invalid %s %q: want more than 0%%", option, d.Val())
		}
		return nil
	}}
}

// duration reads a duration longer than 0.
func duration[T any](field func(T) *caddy.Duration) option[T] {
	return option[T]{read: func(_ *reader, d *caddyfile.Dispenser, into T) (err error) {
		*field(into), err = durationArgument(d)
		return err
	}}
}

// size reads a number of bytes.
func size[T any](field func(T) *int64) option[T] {
	return option[T]{read: func(_ *reader, d *caddyfile.Dispenser, into T) error {
		option := d.Val()
		_, err := argument(d)
		if err == nil {
			*field(into), err = parseSize(d, option)
		}
		return err
	}}
}

// parseSize parses the current word of d as a size in bytes, from 1 to 2 GiB.
func parseSize(d *caddyfile.Dispenser, option string) (int64, error) {
	n, err := humanize.ParseBytes(d.Val())
	if err != nil || n == 0 || n > math.MaxInt32 {
		return 0, d.Errf("invalid %s %q: want a size between 1 byte and 2GiB%s", option, d.Val(), adviseVariable(d.Val()))
	}
	if number := d.Val(); d.NextArg() {
		if _, err := humanize.ParseBytes(number + d.Val()); err == nil {
			return 0, d.Errf("invalid %s %q: write %[2]s%s, without a space", option, number, d.Val())
		}
		d.Prev()
	}
	return int64(n), nil
}

// argument reads a required argument.
func argument(d *caddyfile.Dispenser) (string, error) {
	if !d.NextArg() {
		return "", missing(d)
	}
	return d.Val(), nil
}

// missing returns the error that the current word of d needs an argument.
func missing(d *caddyfile.Dispenser) error { return d.Errf("a value is missing after %s", d.Val()) }

// durationArgument reads the next word as a duration. The current word names it in errors.
func durationArgument(d *caddyfile.Dispenser) (caddy.Duration, error) {
	return durationOf(d, d.Val())
}

// durationOf reads the next word as the duration of an option.
func durationOf(d *caddyfile.Dispenser, option string) (caddy.Duration, error) {
	if _, err := argument(d); err != nil {
		return 0, err
	}
	return parseDuration(d, option)
}

// parseDuration parses the current word of d as a duration longer than 0.
func parseDuration(d *caddyfile.Dispenser, option string) (caddy.Duration, error) {
	value, err := caddy.ParseDuration(d.Val())
	if err != nil || value <= 0 {
		word := d.Val()
		return 0, d.Errf("invalid %s %q: want a duration such as 500ms or 1m30s%s", option, word, suggestDuration(d, option))
	}
	return caddy.Duration(value), nil
}

// ratioArgument reads the next word as a ratio, such as 50% or 0.5. The current word names it in
// errors.
func ratioArgument(d *caddyfile.Dispenser) (float64, error) {
	option := d.Val()
	word, err := argument(d)
	if err != nil {
		return 0, err
	}
	digits, percent := strings.CutSuffix(word, "%")
	value, err := parseNumber(digits)
	if percent {
		value = percentage(value)
	}
	if err != nil || outside(value) {
		advice := ""
		switch {
		case err == nil && !percent && value > 1 && value <= 100:
			advice = fmt.Sprintf("; did you mean %s%%?", word)
		case err != nil:
			advice = adviseNumber(word)
		}
		return 0, d.Errf("invalid %s %q: want 0%% to 100%%, or 0 to 1%s", option, word, advice)
	}
	return value, nil
}

// percentage converts a percentage to a ratio without a rounding error: 99.9 is 0.999.
func percentage(value float64) float64 { return math.Round(value*1e10) / 1e12 }

// parseNumber parses a finite number.
func parseNumber(word string) (float64, error) {
	value, err := strconv.ParseFloat(word, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
		return 0, errors.New("want a number")
	}
	return value, nil
}

// A place is a line of a Caddyfile.
type place struct {
	file string
	line int
}

// here returns the current place of d.
func here(d *caddyfile.Dispenser) place { return place{d.File(), d.Line()} }

// wrap adds the place to an error, as a dispenser does. It returns nil for nil.
func (p place) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w, at %s:%d", err, p.file, p.line)
}

// wrap adds the current file and line to an error. It returns nil for nil.
func wrap(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}

// wrapWord adds the option, the wrong word, and the current file and line to an error. It returns
// nil for nil.
func wrapWord(d *caddyfile.Dispenser, option, word string, err error) error {
	if err == nil {
		return nil
	}
	return d.Errf("invalid %s %q: %w%s", option, word, err, adviseNumber(word))
}
