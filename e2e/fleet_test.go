package e2e

// fleetOfOne is the global option of an instance in a fleet, which shares no storage with others.
const fleetOfOne = "failover {\n\tfleet lonely {\n\t\tstorage\n\t\tinstance me\n\t}\n}"
