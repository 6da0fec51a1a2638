package fleet

import (
	"context"
	"errors"
	"time"
)

// An Engine carries facts between instances. It may be slow, full, restarted or gone at any
// time: a node copes with that. Methods may be called at once, and return soon after their
// context ends.
type Engine interface {
	// Publish passes records to the watchers of all instances and stores them for as long as
	// they count. forgotten says that the engine has lost a record with Proof. ErrFull says that
	// watchers get the records but some are not stored.
	Publish(ctx context.Context, records []Record) (forgotten bool, err error)

	// Watch calls ready once, and from then on take with the records that are published,
	// until the context ends or the engine is lost. It returns why. A watcher gets the records of its own
	// node too, unless the engine keeps a value for each instance.
	Watch(ctx context.Context, ready func(), take func(Record)) error

	// Snapshot returns all records that are stored.
	Snapshot(ctx context.Context) ([]Record, error)
}

// An engine that keeps a value for each instance, which goes with it, has this method; every
// instance then publishes all orders that it knows.
type perInstance interface {
	// Interval is the time between two looks at the others' values.
	Interval() time.Duration
}

// ErrFull says that an engine passes records on but stores none, for example for want of room.
var ErrFull = errors.New("the engine stores nothing now")

// A Record is an encoded fact for an engine.
type Record struct {
	Key   string        // a record replaces the one before of its key; empty: it is not stored
	Data  []byte        // at most MaxSize bytes
	Left  time.Duration // for how long it counts; 0: it is over, and no longer stored
	Proof bool          // it has been stored before, and must still be
}
