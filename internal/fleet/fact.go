// Package fleet tells other instances what this one has learnt, and hears what they have.
package fleet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strings"
	"time"
)

// A Kind is what a fact is about.
type Kind string

// Kinds of facts.
const (
	// Hold says that an endpoint asked to be left alone: it limited the rate, refused its own
	// credentials, or stated that its quota is used up. Left is for how long; 0 ends it.
	Hold Kind = "hold"
	// Order is an operator's order.
	Order Kind = "order"
	// Breaker is what the instance's breaker of an endpoint came to by itself. It is a hint.
	Breaker Kind = "breaker"
	// Trial says that the instance tries an endpoint that is out.
	Trial Kind = "trial"
	// Demand is which part of an endpoint's limit the instance needs, and which it takes.
	Demand Kind = "demand"
	// Event is an event of a pool.
	Event Kind = "event"
	// Hello says that the instance is there.
	Hello Kind = "hello"
	// Bye says that the instance ends.
	Bye Kind = "bye"
)

// Kinds are all kinds of facts.
var Kinds = []Kind{Hold, Order, Breaker, Trial, Demand, Event, Hello, Bye}

// States of a fact of the kind Breaker.
const (
	Opened     = "open"
	Failing    = "failing"    // it is closed, but the latest calls have failed
	Recovering = "recovering" // a trial has succeeded
	Closed     = "closed"
)

// Slots of orders: one order of each is in force at an endpoint.
const (
	Steering = "state" // drain, trip, enable and reset
	Weight   = "weight"
	Priority = "priority"
)

// Bounds of what a fact may hold. Times are at most so long.
const (
	MaxSize = 1024 // bytes of an encoded fact
	// MaxHold is for how long a hold of another instance counts.
	MaxHold = 5 * time.Minute
	// MaxOrder is for how long an order is remembered.
	MaxOrder = 366 * 24 * time.Hour

	// MaxScope is the most bytes of a scope's name.
	MaxScope = 64

	maxText     = 128 // bytes of a name or a reason
	maxActive   = 64  // endpoints and scopes that a Hello lists
	shortID     = 6   // bytes of a place in a Hello
	maxLifetime = 5 * time.Minute
)

// A Fact is one thing that an instance tells the others. Which fields it has depends on its
// kind; the others are zero.
type Fact struct {
	Kind     Kind
	Instance string // who says it
	Boot     string // which process of that instance
	Serial   uint64 // grows with each fact of a process

	// Left is for how long the fact counts. 0: it is over.
	Left time.Duration

	Endpoint string // its ID; empty for a Hello, a Bye and an event of a whole pool
	Scope    string // the kind of a call, at most MaxScope bytes; empty: all
	Pool     string // for people; may be cut
	Name     string // of the endpoint at the instance; for people

	Reason string // of a hold, an opening or an order
	State  string // of a breaker; the action of an order

	// Of an order.
	Slot    string
	Version uint64        // a newer order has a greater one
	Value   float64       // the weight or the priority
	Undone  bool          // nothing of its slot is in force
	Lasts   time.Duration // what is left of it; 0: until it is undone

	// Of a demand.
	Need float64 // of the limit, 0 to 1
	Part float64 // of the limit that the instance takes, 0 to 1

	// Of a Hello.
	Release string   // of the plugin
	Active  []string // the places that had calls lately, endpoints first, in their short form
	Every   time.Duration

	// Of an event: what happened, and how long ago. Details are texts, booleans and float64.
	What     string
	To       string
	Count    int
	Age      time.Duration
	Incident uint64
	Details  map[string]any
}

// Key identifies what a fact is about. A fact replaces the one before of its key; one without a
// key is told once and not kept.
func (f *Fact) Key() string {
	switch f.Kind {
	case Order:
		return "order/" + f.Endpoint + "/" + f.Slot
	case Trial:
		return "trial/" + f.Endpoint + "/" + digest(f.Scope)
	case Hold, Breaker, Demand:
		return string(f.Kind) + "/" + f.Endpoint + "/" + digest(f.Scope) + "/" + digest(f.Instance)
	case Hello, Bye:
		return "hello/" + digest(f.Instance)
	}
	return ""
}

// A Stamp puts the orders of a slot in a sequence that is the same at all instances, those that two instances
// get in the same millisecond among them. The zero value is before all.
type Stamp struct {
	Version  uint64
	Instance string
}

// Stamp returns the stamp of an order.
func (f *Fact) Stamp() Stamp { return Stamp{f.Version, f.Instance} }

// After reports whether the stamp's order is later than another's.
func (s Stamp) After(o Stamp) bool {
	if s.Version != o.Version {
		return s.Version > o.Version
	}
	return s.Instance > o.Instance
}

// newerThan reports whether an order comes after another of its slot.
func (f *Fact) newerThan(o *Fact) bool { return f.Stamp().After(o.Stamp()) }

// hasScope reports whether facts of a kind may be about one scope of an endpoint.
func (k Kind) hasScope() bool { return k == Hold || k == Breaker || k == Trial || k == Event }

// scopeMark begins the short form of a scope's place.
const scopeMark = "~"

// Place names an endpoint, or one scope of it; an empty scope stands for the whole.
func Place(id, scope string) string {
	if scope == "" {
		return id
	}
	return id + "/" + scope
}

// Short returns the short form of a place, as a Hello has it.
func Short(place string) string {
	if _, scope, ok := strings.Cut(place, "/"); ok && scope != "" {
		return scopeMark + digest(place)[:shortID-len(scopeMark)]
	}
	return place[:min(shortID, len(place))]
}

// digest returns a short name for a text that may be long.
func digest(text string) string {
	if text == "" {
		return "-"
	}
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// An Identifier makes the IDs by which instances know endpoints.
type Identifier struct{ key []byte }

// NewIdentifier returns the identifier of a fleet. Without a secret, its name is the key.
func NewIdentifier(fleet, secret string) Identifier {
	mac := hmac.New(sha256.New, []byte("caddy failover fleet "+secret))
	_, _ = io.WriteString(mac, fleet)
	return Identifier{mac.Sum(nil)}
}

// ID returns the ID of an endpoint: a keyed hash of its pool, its base URL and its credentials,
// of which it discloses nothing. Equal endpoints of instances with the same secret have the
// same ID.
func (i Identifier) ID(pool, base, credentials string) string {
	mac := hmac.New(sha256.New, i.key)
	for _, part := range []string{pool, base, credentials} {
		sum := sha256.Sum256([]byte(part))
		mac.Write(sum[:])
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}
