package memory

// Bodies is this process's budget for buffered bodies: request bodies that may be sent
// again, and responses that are held back. An App sets its limit, else
// SetDefault does.
var Bodies Budget
