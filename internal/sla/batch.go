package sla

import "time"

// Batch collects outcomes, which [Series.RecordBatch] records at once. A caller that guards
// its batch anyway needs no second lock. The zero value is empty. A batch is not safe for
// concurrent use.
type Batch struct {
	tally     tally
	streak    uint64 // failures since the last success
	succeeded bool
}

// Add counts one outcome. It does not allocate.
func (b *Batch) Add(o Outcome) {
	b.tally.record(o)
	switch {
	case o.Kind == Success:
		b.streak, b.succeeded = 0, true
	case o.Kind.Failed():
		b.streak++
	}
}

// AddSuccess counts one success in each batch. Latency must be above 0; its bin is looked
// up only once.
func AddSuccess(latency time.Duration, batches ...*Batch) {
	bin := binOf(latency)
	for _, b := range batches {
		b.tally.Calls++
		b.tally.latency.add(bin, 1)
		b.streak, b.succeeded = 0, true
	}
}

// AddMany counts n outcomes of one kind, without latency.
func (b *Batch) AddMany(k Kind, n uint64) {
	switch {
	case n == 0:
	case k == Success:
		b.tally.Calls += n
		b.streak, b.succeeded = 0, true
	case k.Failed():
		b.tally.Calls += n
		b.tally.Failures[k-Dial] += n
		b.streak += n
	case k == Cancelled:
		b.tally.Cancelled += n
	}
}

// Merge adds the counts of o. The outcomes in o must be the later ones.
func (b *Batch) Merge(o *Batch) {
	b.tally.merge(&o.tally)
	if o.succeeded {
		b.streak, b.succeeded = o.streak, true
	} else {
		b.streak += o.streak
	}
}

// Counts returns the counts of the batch.
func (b *Batch) Counts() Counts { return b.tally.Counts }

// Successes returns the number of successes.
func (b *Batch) Successes() uint64 { return b.tally.Calls - b.tally.Failures.Total() }

// Empty reports whether the batch has no outcomes.
func (b *Batch) Empty() bool { return b.tally.empty() }

// Reset empties the batch.
func (b *Batch) Reset() {
	b.tally.reset()
	b.streak, b.succeeded = 0, false
}

// RecordBatch counts all outcomes of a batch at time now.
func (s *Series) RecordBatch(now time.Time, b *Batch) {
	s.mu.Lock()
	s.rec.recordBatch(now, b)
	s.mu.Unlock()
}
