package pool

import (
	"container/heap"
	"time"
)

// An agenda is a heap of the endpoints that wait for their next check: the first is due
// first. The zero value is empty.
type agenda []*checked

// put sets when an endpoint's next check is due, and adds the endpoint if need be.
func (a *agenda) put(one *checked, due time.Time) {
	switch {
	case one.place == 0:
		one.due = due
		heap.Push((*places)(a), one)
	case !one.due.Equal(due):
		one.due = due
		heap.Fix((*places)(a), one.place-1)
	}
}

// remove removes an endpoint, if it is there.
func (a *agenda) remove(one *checked) {
	if one.place > 0 {
		heap.Remove((*places)(a), one.place-1)
	}
}

// places implements heap.Interface.
type places []*checked

func (l places) Len() int           { return len(l) }
func (l places) Less(i, j int) bool { return l[i].due.Before(l[j].due) }

func (l places) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].place, l[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (l *places) Push(x any) {
	one := x.(*checked)
	*l = append(*l, one)
	one.place = len(*l)
}

// Pop implements heap.Interface.
func (l *places) Pop() any {
	last := len(*l) - 1
	one := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	one.place = 0
	return one
}
