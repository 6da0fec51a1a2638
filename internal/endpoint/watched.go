package endpoint

// Ending says why an attempt's context ended, or what the watcher has to do about an attempt that
// goes on.
type Ending uint32

const (
	NotEnded        Ending = iota // it goes on
	EndedNormally                 // its response has been read
	EndedByTimeout                // no first byte came in time
	EndedByDeadline               // the call had no time left
	EndedByClient                 // the client left
	EndedByIdle                   // the response stopped arriving
	EndedByRescue                 // its endpoint's breaker opened, and the call goes on elsewhere
	EndedByHedge                  // its rival won
	NeverBegan                    // the proxy never made the round trip
	MayBeLost                     // it goes on: check the connection of its upload
	HedgeStarts                   // it goes on: start its hedge
)
