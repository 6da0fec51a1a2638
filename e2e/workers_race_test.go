//go:build race

package e2e

// workersPerCore is less under the race detector, which makes every request cost more. Tests measure
// how long requests take.
const workersPerCore = 2
