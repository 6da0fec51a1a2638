//go:build !race

package e2e

// workersPerCore is how many workers run at once for each core.
const workersPerCore = 4

// loadPart divides the rates of tests that compare loads.
const loadPart = 1
