package endpoint

// Ending is why an attempt's context ended.
type Ending uint32

const (
	NotEnded Ending = iota
	EndedNormally
	EndedByTimeout
	EndedByDeadline
	EndedByClient
	EndedByIdle
	EndedByRescue
	EndedByHedge
	NeverBegan
	MayBeLost   // no end: the watcher's word for an upload whose connection is to be looked at
	HedgeStarts // no end: the watcher's word for a hedge that is due
)
