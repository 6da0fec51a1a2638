package anomaly

// A standardised deviation z enters the sums as at most maxZ (a robust CUSUM:
// Lucas and Crosier 1982). A sum grows while z is above slack and reaches the
// threshold with four steps at maxZ. For independent normal z the mean time
// between false alarms is, by Siegmund's approximation (1985),
// (exp(2kb) - 2kb - 1) / 2k² / 2 steps with k = slack, b = threshold + 1.166:
// years. The margin is for what is not normal and not independent.
const (
	maxZ      = 3.5
	slack     = 0.8
	threshold = 10

	// suspicion is the sum above which the baseline learns four times slower, so
	// that a small change is found before it is learnt.
	suspicion = threshold / 3

	// quiet ends an anomaly: six steps exactly as expected. Beginning needs a mean
	// above slack and ending one below it, so none in between toggles.
	quiet = 6 * slack
)

// cusum is a one-sided sum (Page 1954) and the weighted mean of what was seen
// since it last was zero, where Page puts the change. The zero value is empty.
type cusum struct {
	sum          float64
	seen, weight float64
}

// add adds v to the sum, which never is below zero, and x to what was seen.
func (c *cusum) add(v, x, weight float64) {
	c.sum += v
	if c.sum <= 0 {
		*c = cusum{}
		return
	}
	c.note(x, weight)
}

// note adds x to the mean alone.
func (c *cusum) note(x, weight float64) {
	if weight > 0 {
		c.weight += weight
		c.seen += (x - c.seen) * (weight / c.weight)
	}
}
