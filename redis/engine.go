package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

const (
	// silence is how long a subscription may be silent before the engine sends a ping,
	// and pings is how many of them may have no response.
	silence = 1500 * time.Millisecond
	pings   = 2
	// readAtOnce is how many keys the engine reads at once.
	readAtOnce = 500
)

// engine carries the facts of a fleet in Redis. Each record is a value whose time to live is that
// of the fact, and a set contains the keys. In a cluster, all of them are in one slot.
type engine struct {
	client  redis.UniversalClient
	prefix  string // of keys, without the last colon
	channel string
}

// newEngine returns the engine of a fleet. Its channel's name contains the database's number,
// because databases share their channels.
func newEngine(client redis.UniversalClient, fleetName string) *engine {
	prefix := "failover:{" + strings.NewReplacer("{", "(", "}", ")").Replace(fleetName) + "}"
	channel := prefix
	if c, ok := client.(*redis.Client); ok && c.Options().DB != 0 {
		channel += fmt.Sprint(":", c.Options().DB)
	}
	return &engine{client, prefix, channel}
}

func (e *engine) key(key string) string { return e.prefix + ":" + key }

func (e *engine) index() string { return e.prefix + ":keys" }

// Publish implements fleet.Engine.
func (e *engine) Publish(ctx context.Context, records []fleet.Record) (forgotten bool, err error) {
	pipe := e.client.Pipeline()
	var proofs []*redis.IntCmd
	for _, r := range records {
		if r.Proof {
			proofs = append(proofs, pipe.Exists(ctx, e.key(r.Key), e.index()))
		}
	}
	for _, r := range records {
		switch {
		case r.Key == "":
		case r.Left > 0:
			pipe.Set(ctx, e.key(r.Key), r.Data, max(time.Millisecond, r.Left.Truncate(time.Millisecond)))
			pipe.SAdd(ctx, e.index(), r.Key)
			if r.Proof {
				pipe.PExpire(ctx, e.index(), 2*fleet.MaxOrder)
			}
		default:
			pipe.Del(ctx, e.key(r.Key))
			pipe.SRem(ctx, e.index(), r.Key)
		}
		pipe.Publish(ctx, e.channel, r.Data)
	}
	done, err := pipe.Exec(ctx)
	full := ""
	for _, cmd := range done {
		one := cmd.Err()
		if one == nil {
			continue
		}
		if full = e.whyFull(cmd.Name(), one.Error()); full == "" {
			return false, one
		}
	}
	if err != nil && full == "" {
		return false, err
	}
	for _, proof := range proofs {
		forgotten = forgotten || proof.Val() < 2
	}
	if full != "" {
		return false, fmt.Errorf("%w: %s", fleet.ErrFull, full)
	}
	return forgotten, nil
}

// whyFull returns why a server that still passes messages on does not store all records, from the error of a command; "" for
// another error.
func (e *engine) whyFull(command, text string) string {
	code, _, _ := strings.Cut(text, " ")
	switch {
	case code == "OOM":
		return "it is at its maxmemory"
	case code == "MISCONF":
		return "it cannot write its data to its disk"
	case code == "NOREPLICAS":
		return "it has too few replicas"
	case code == "NOPERM" && command != "publish":
		return text
	case code == "WRONGTYPE":
		return "its key " + e.index() + " is no set; delete it"
	}
	return ""
}

// Watch implements fleet.Engine.
func (e *engine) Watch(ctx context.Context, ready func(), take func(fleet.Record)) error {
	sub := e.client.Subscribe(ctx, e.channel)
	defer sub.Close()
	defer context.AfterFunc(ctx, func() { sub.Close() })() // ends a blocked read
	unanswered := 0
	for ctx.Err() == nil {
		message, err := sub.ReceiveTimeout(ctx, silence)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			if unanswered == pings {
				return errors.New("it is silent")
			}
			unanswered++
			if err := sub.Ping(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		unanswered = 0
		switch m := message.(type) {
		case *redis.Subscription:
			ready()
		case *redis.Message:
			take(fleet.Record{Data: []byte(m.Payload)})
		}
	}
	return ctx.Err()
}

// Snapshot implements fleet.Engine. It removes the keys of expired records from the set.
func (e *engine) Snapshot(ctx context.Context) (records []fleet.Record, err error) {
	var cursor uint64
	for {
		var keys []string
		keys, cursor, err = e.client.SScan(ctx, e.index(), cursor, "", readAtOnce).Result()
		if isOfWrongType(err) {
			return nil, nil // Publish says so
		}
		if err != nil {
			return nil, err
		}
		some, err := e.read(ctx, keys)
		if err != nil {
			return nil, err
		}
		records = append(records, some...)
		if cursor == 0 {
			return records, nil
		}
	}
}

// read returns the records of keys.
func (e *engine) read(ctx context.Context, keys []string) (records []fleet.Record, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipe := e.client.Pipeline()
	values, lefts := make([]*redis.StringCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	for i, key := range keys {
		values[i], lefts[i] = pipe.GetRange(ctx, e.key(key), 0, fleet.MaxSize), pipe.PTTL(ctx, e.key(key)) // no more of a stranger's value
	}
	if _, err := pipe.Exec(ctx); err != nil && !isOfWrongType(err) {
		return nil, err
	}
	var expired []any
	for i, key := range keys {
		data, err := values[i].Bytes()
		switch left := lefts[i].Val(); {
		case err == nil && len(data) == 0, isOfWrongType(err):
			expired = append(expired, key)
		case err != nil:
			return nil, err
		case left > 0:
			records = append(records, fleet.Record{Key: key, Data: data, Left: left})
		}
	}
	if len(expired) > 0 {
		_ = e.client.SRem(ctx, e.index(), expired...).Err() // on error, the next reader removes them
	}
	return records, nil
}

// isOfWrongType reports whether a key has something else than a value, which is none of ours.
func isOfWrongType(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE ") }

var _ fleet.Engine = (*engine)(nil)
