package fleet

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrSignature says that a fact is not signed with the fleet's secret.
var ErrSignature = errors.New("the signature is not that of the fleet's secret")

// A Codec encodes the facts of a fleet, and decodes those of strangers.
type Codec struct {
	fleet string
	key   []byte // of signatures; nil: facts are not signed
}

// NewCodec returns the codec of a fleet. Without a secret, facts are not signed.
func NewCodec(fleet, secret string) Codec {
	c := Codec{fleet: fleet}
	if secret != "" {
		key := sha256.Sum256([]byte("caddy failover facts " + secret))
		c.key = key[:]
	}
	return c
}

const format = 1

// wire is a fact as JSON. Times are milliseconds.
type wire struct {
	Format   int            `json:"v"`
	Kind     Kind           `json:"k"`
	Instance string         `json:"i"`
	Boot     string         `json:"b"`
	Serial   uint64         `json:"s"`
	Left     int64          `json:"l,omitempty"`
	Endpoint string         `json:"e,omitempty"`
	Scope    string         `json:"c,omitempty"`
	Pool     string         `json:"p,omitempty"`
	Name     string         `json:"n,omitempty"`
	Reason   string         `json:"r,omitempty"`
	State    string         `json:"t,omitempty"`
	Slot     string         `json:"o,omitempty"`
	Version  uint64         `json:"w,omitempty"`
	Value    float64        `json:"x,omitempty"`
	Undone   bool           `json:"u,omitempty"`
	Lasts    int64          `json:"f,omitempty"`
	Need     float64        `json:"d,omitempty"`
	Part     float64        `json:"a,omitempty"`
	Release  string         `json:"y,omitempty"`
	Active   []string       `json:"g,omitempty"`
	Every    int64          `json:"q,omitempty"`
	What     string         `json:"h,omitempty"`
	To       string         `json:"z,omitempty"`
	Count    int            `json:"m,omitempty"`
	Age      int64          `json:"j,omitempty"`
	Incident uint64         `json:"#,omitempty"`
	Details  map[string]any `json:"+,omitempty"`
}

// Encode returns a fact as others get it: its signature, a dot and JSON. Texts are cut to what
// a fact may hold, and details are left out where there is no room for them.
func (c Codec) Encode(f *Fact) ([]byte, error) {
	w := wire{
		Format: format, Kind: f.Kind, Instance: cut(f.Instance, maxText), Boot: f.Boot, Serial: f.Serial, Left: f.Left.Milliseconds(),
		Endpoint: f.Endpoint, Pool: cut(f.Pool, maxText), Name: cut(f.Name, maxText),
		Reason: cut(f.Reason, maxText), State: f.State, Slot: f.Slot, Version: f.Version, Value: f.Value, Undone: f.Undone,
		Lasts: f.Lasts.Milliseconds(), Need: f.Need, Part: f.Part, Release: cut(f.Release, maxText),
		Active: f.Active[:min(len(f.Active), maxActive)], Every: f.Every.Milliseconds(),
		What: cut(f.What, maxText), To: cut(f.To, maxText), Count: f.Count, Age: f.Age.Milliseconds(), Incident: f.Incident,
	}
	if f.Kind.hasScope() {
		w.Scope = cut(f.Scope, MaxScope)
	}
	if f.Left > 0 {
		w.Left = max(1, w.Left)
	}
	if f.Lasts > 0 {
		w.Lasts = max(1, w.Lasts)
	}
	for name, value := range f.Details {
		if w.Details == nil {
			w.Details = make(map[string]any)
		}
		if text, ok := value.(string); ok {
			value = cut(text, maxText)
		}
		w.Details[cut(name, maxText)] = value
	}
	data, err := c.seal(&w)
	if err == nil && len(data) > MaxSize && w.Details != nil {
		w.Details = nil
		data, err = c.seal(&w)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("encoding a fact: %w", err)
	case len(data) > MaxSize:
		return nil, fmt.Errorf("encoding a fact: it has %d bytes, at most %d are allowed", len(data), MaxSize)
	}
	return data, nil
}

func (c Codec) seal(w *wire) ([]byte, error) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(w); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	return append(append(c.signature(text), '.'), text...), nil
}

// signature returns the signature of a text; empty without a secret.
func (c Codec) signature(text []byte) []byte {
	if c.key == nil {
		return nil
	}
	mac := hmac.New(sha256.New, c.key)
	name := sha256.Sum256([]byte(c.fleet))
	mac.Write(name[:])
	mac.Write(text)
	return base64.RawURLEncoding.AppendEncode(nil, mac.Sum(nil)[:16])
}

// Decode reads a fact. What it returns is within the bounds of a fact, whoever wrote the data.
func (c Codec) Decode(data []byte) (Fact, error) {
	if len(data) > MaxSize {
		return Fact{}, fmt.Errorf("decoding a fact: it has %d bytes, at most %d are allowed", len(data), MaxSize)
	}
	signature, text, ok := bytes.Cut(data, []byte("."))
	if !ok {
		return Fact{}, errors.New("decoding a fact: it has no signature part")
	}
	if !hmac.Equal(signature, c.signature(text)) {
		return Fact{}, fmt.Errorf("decoding a fact: %w", ErrSignature)
	}
	var w wire
	if err := json.Unmarshal(text, &w); err != nil {
		return Fact{}, fmt.Errorf("decoding a fact: %w", err)
	}
	if err := w.check(); err != nil {
		return Fact{}, fmt.Errorf("decoding a fact: %w", err)
	}
	return Fact{
		Kind: w.Kind, Instance: w.Instance, Boot: w.Boot, Serial: w.Serial, Left: span(w.Left),
		Endpoint: w.Endpoint, Scope: w.Scope, Pool: w.Pool, Name: w.Name, Reason: w.Reason, State: w.State,
		Slot: w.Slot, Version: w.Version, Value: w.Value, Undone: w.Undone, Lasts: span(w.Lasts),
		Need: w.Need, Part: w.Part, Release: w.Release, Active: w.Active, Every: span(w.Every),
		What: w.What, To: w.To, Count: w.Count, Age: span(w.Age), Incident: w.Incident, Details: w.Details,
	}, nil
}

func span(milliseconds int64) time.Duration { return time.Duration(milliseconds) * time.Millisecond }

// check reports what is wrong with a fact of a stranger.
func (w *wire) check() error {
	switch {
	case w.Format != format:
		return fmt.Errorf("its format is %d, want %d", w.Format, format)
	case !slices.Contains(Kinds, w.Kind):
		return errors.New("its kind is unknown")
	case w.Instance == "":
		return errors.New("it names no instance")
	case w.Boot == "" || len(w.Boot) > 32:
		return errors.New("it names no process")
	}
	for _, text := range []string{
		w.Instance, w.Boot, w.Endpoint, w.Scope, w.Pool, w.Name, w.Reason, w.State, w.Slot, w.Release, w.What, w.To,
	} {
		if !isText(text) {
			return errors.New("a text is too long or not printable")
		}
	}
	for name, value := range w.Details {
		if !isText(name) || !isDetail(value) {
			return errors.New("a detail is too long, not printable or of a wrong type")
		}
	}
	longest := maxLifetime
	if w.Kind == Order {
		longest = MaxOrder
	}
	switch {
	case w.Left < 0 || w.Left > longest.Milliseconds():
		return fmt.Errorf("it counts for %d ms, at most %d are allowed", w.Left, longest.Milliseconds())
	case w.Lasts < 0 || w.Lasts > MaxOrder.Milliseconds():
		return errors.New("an order lasts too long")
	case w.Age < 0 || w.Age > (24*time.Hour).Milliseconds():
		return errors.New("an event is too old")
	case w.Every < 0 || w.Every > maxLifetime.Milliseconds():
		return errors.New("the instance is heard of too seldom")
	case w.Count < 0 || w.Count > math.MaxInt32:
		return errors.New("its count is out of range")
	case !(w.Value >= 0 && w.Value <= math.MaxFloat32):
		return errors.New("its value is out of range")
	case !(w.Need >= 0 && w.Need <= 1) || !(w.Part >= 0 && w.Part <= 1):
		return errors.New("its demand is out of range")
	case w.Version > 1<<62 || w.Incident > 1<<62:
		return errors.New("its version is out of range")
	case len(w.Active) > maxActive:
		return errors.New("it lists too many endpoints")
	case len(w.Scope) > MaxScope || w.Scope != "" && !w.Kind.hasScope():
		return errors.New("its scope is none")
	}
	for _, id := range w.Active {
		if len(id) != shortID || !isText(id) {
			return errors.New("it lists something that is no endpoint")
		}
	}
	return w.checkKind()
}

func (w *wire) checkKind() error {
	needs := w.Kind == Hold || w.Kind == Order || w.Kind == Breaker || w.Kind == Trial || w.Kind == Demand
	id, err := base64.RawURLEncoding.DecodeString(w.Endpoint)
	if (needs || w.Endpoint != "") && (err != nil || len(id) != 16) {
		return errors.New("it names no endpoint")
	}
	switch w.Kind {
	case Breaker:
		if w.State != Opened && w.State != Failing && w.State != Recovering && w.State != Closed {
			return errors.New("its state is unknown")
		}
	case Order:
		switch w.Slot {
		case Steering, Weight:
		case Priority:
			if !w.Undone && (w.Value < 1 || w.Value != math.Trunc(w.Value) || w.Value > math.MaxInt32) {
				return errors.New("its priority is none")
			}
		default:
			return errors.New("its order is unknown")
		}
	case Event:
		if w.What == "" || w.Pool == "" {
			return errors.New("its event is unknown")
		}
	}
	return nil
}

// isDetail reports whether a value of JSON is one that a detail of an event may have.
func isDetail(value any) bool {
	switch v := value.(type) {
	case string:
		return isText(v)
	case bool, float64:
		return true
	}
	return false
}

// isText reports whether a text is short, valid and printable.
func isText(text string) bool {
	if len(text) > maxText || !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// cut returns the start of a text that others take: printable, at most so many bytes.
func cut(text string, most int) string {
	if len(text) <= most && isText(text) {
		return text
	}
	out := make([]byte, 0, most)
	for _, r := range text {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = '?'
		}
		if len(out)+utf8.RuneLen(r) > most {
			break
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
