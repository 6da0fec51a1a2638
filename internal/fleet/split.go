package fleet

import "time"

// How instances split a limit: by what each needs, and never more than all of it.

const (
	// leastNeed is what an instance counts as needing at least, of an even part, so that one
	// that rests can begin at once.
	leastNeed = 0.1
	// saturated is how much more an instance needs than it got if it was turned away.
	saturated = 1.5
)

// A Claim is what an instance needs of a limit, in any unit that all use, and the part of the
// limit that it takes, 0 to 1; 0: none yet.
type Claim struct{ Wanted, Part float64 }

// Need returns what an instance counts as needing that got so much of a limit, and was turned
// away or not.
func Need(got float64, turnedAway bool) float64 {
	if turnedAway {
		return got * saturated
	}
	return got
}

// Split returns the part of a limit that an instance takes next, beside what the others claim.
// own is as the others know it, so that all compute it from the same claims. It shrinks at once, and grows only into what
// the others have left; so parts add up to 1 at most, except while claims are on their way. An
// instance without a part yet begins with an even one, among so many instances. Without steady,
// the others may not be known yet: then nothing grows.
func Split(own Claim, others []Claim, instances int, limit float64, steady bool) (part float64) {
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
	least := leastNeed * limit / float64(instances)
	total, taken := max(own.Wanted, least), own.Part
	for _, o := range others {
		total += max(o.Wanted, least)
		taken += o.Part
	}
	target := max(own.Wanted, least) / total
	if target <= own.Part {
		return target
	}
	free, wishes := 1-taken, target-own.Part
	for _, o := range others {
		wishes += max(0, max(o.Wanted, least)/total-o.Part)
	}
	if free <= 0 || !steady {
		return own.Part
	}
	return min(target, own.Part+free*(target-own.Part)/wishes)
}

// ClaimLasts is for how long a claim counts without news.
func ClaimLasts(every time.Duration) time.Duration { return min(maxLifetime, 10*every) }
