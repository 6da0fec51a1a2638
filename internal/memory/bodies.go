package memory

// Bodies is this process's budget for buffered bodies: request bodies that may be sent again,
// and responses that are held back. The app sets its limit; without one, [SetDefault] does.
var Bodies Budget
