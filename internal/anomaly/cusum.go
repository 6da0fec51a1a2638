package anomaly

// A standardised deviation z adds at most maxZ to the sums (a robust CUSUM: Lucas and
// Crosier 1982). A sum grows while z is above slack, and reaches the threshold after four
// steps at maxZ. For independent normal z, Siegmund's approximation (1985) gives a mean
// time between false alarms of (exp(2kb) - 2kb - 1) / 2k² / 2 steps with k = slack and b =
// threshold + 1.166: years. That leaves a margin for values that are neither normal nor
// independent.
const (
	maxZ      = 3.5
	slack     = 0.8
	threshold = 10

	// suspicion is the sum above which the baseline learns four times slower, so that a
	// small change is detected before it is learnt.
	suspicion = threshold / 3

	// quiet ends an anomaly: six steps exactly as expected. A start needs a mean above
	// slack and an end one below it, so no constant mean toggles the state.
	quiet = 6 * slack
)

// cusum is a one-sided sum (Page 1954) and the weighted mean of the values since the sum
// was last zero. Page dates the change there. The zero value is empty.
type cusum struct {
	sum          float64
	seen, weight float64
}

// add adds v to the sum, which never falls below zero, and x to the mean.
func (c *cusum) add(v, x, weight float64) {
	c.sum += v
	if c.sum <= 0 {
		*c = cusum{}
		return
	}
	c.note(x, weight)
}

// note adds x to the mean only.
func (c *cusum) note(x, weight float64) {
	if weight > 0 {
		c.weight += weight
		c.seen += (x - c.seen) * (weight / c.weight)
	}
}
