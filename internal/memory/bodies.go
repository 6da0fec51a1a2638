package memory

// Bodies is the memory of this process for bodies that are kept: request bodies, so that
// they can be sent again, and answers that are held back. It is bounded by an App, or by
// failover.defaultMemory.
var Bodies Budget
