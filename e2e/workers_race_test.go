//go:build race

package e2e

// workersPerCore is less under the race detector, which makes every request cost more. Tests measure
// how long requests take.
const workersPerCore = 2

// loadPart divides the rates of tests that compare loads: a cut connection costs several times as much under the race detector.
const loadPart = 2
