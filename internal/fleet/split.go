package fleet

import (
	"math"
	"time"
)

// How instances split a limit: by what each needs, and never more than all of it.

const (
	// leastNeed is what an instance counts as needing at least, of an even part, so that one
	// that rests can begin at once.
	leastNeed = 0.02
	// chance is how many standard deviations of a random number of calls are put down to chance.
	chance = 3
	// needLooks is of how many looks a need is about the mean.
	needLooks = 16
)

// A Need is which part of a limit an instance needs, 0 to 1. The zero value has seen no calls.
type Need struct {
	Part  float64
	looks float64 // that Part is the mean of
}

// Saw takes how many calls asked for the limit since the look before, those that were turned away
// among them, and how many the whole limit would have admitted. Part follows slowly as long as chance
// may have made the difference, so that chance moves no parts to and fro, and else at once.
func (n *Need) Saw(calls, limit float64) {
	if limit <= 0 {
		return
	}
	calls = min(calls, limit)
	if expected := n.Part * limit; math.Abs(calls-expected) > chance*math.Sqrt(max(1, expected)) {
		n.looks = 0
	}
	n.looks = min(n.looks+1, needLooks)
	n.Part += (calls/limit - n.Part) / n.looks
}

// A Claim is which part of a limit an instance needs, and which it takes, both 0 to 1. A Part of 0:
// none yet.
type Claim struct{ Need, Part float64 }

// Split returns the part of a limit that an instance takes next, beside what the others claim.
// own is as the others know it, so that all compute it from the same claims. It shrinks at once, and grows only into what
// the others have left; so parts add up to 1 at most, except while claims are on their way. What nobody needs is split evenly. An
// instance without a part yet begins with an even one, among so many instances. Without steady,
// the others may not be known yet: then nothing grows.
func Split(own Claim, others []Claim, instances int, steady bool) (part float64) {
	instances = max(instances, len(others)+1)
	if own.Part == 0 {
		return 1 / float64(instances)
	}
	if len(others) == 0 && instances == 1 {
		if !steady {
			return own.Part
		}
		return 1
	}
	need := func(c Claim) float64 { return max(c.Need, leastNeed/float64(instances)) }
	total, taken := need(own), own.Part
	for _, o := range others {
		total += need(o)
		taken += o.Part
	}
	target := func(c Claim) float64 {
		if total >= 1 {
			return need(c) / total
		}
		return need(c) + (1-total)/float64(len(others)+1)
	}
	wish := target(own) - own.Part
	if wish <= 0 {
		return target(own)
	}
	free, wishes := 1-taken, wish
	for _, o := range others {
		wishes += max(0, target(o)-o.Part)
	}
	if free <= 0 || !steady {
		return own.Part
	}
	return own.Part + min(wish, free*wish/wishes)
}

// ClaimLasts is for how long a claim counts without news.
func ClaimLasts(every time.Duration) time.Duration { return min(maxLifetime, 10*every) }
