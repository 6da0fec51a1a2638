package endpoint

// Ending is why an attempt's context ended.
type Ending uint32

const (
	NotEnded        Ending = iota // it goes on
	EndedNormally                 // its answer has been read
	EndedByTimeout                // no first byte came in time
	EndedByDeadline               // the call had no time left
	EndedByClient                 // the client has left
	EndedByIdle                   // the answer stopped coming
	EndedByRescue                 // its endpoint opened, and the call goes on elsewhere
	EndedByHedge                  // its rival has won
	NeverBegan                    // the proxy never made it
	MayBeLost                     // no end: the watcher's word for an upload whose connection is to be looked at
	HedgeStarts                   // no end: the watcher's word for a hedge that is due
)
