package main

import "slices"

// quantiles turns nanoseconds into microseconds at p50, p90 and p99; it sorts what it is given.
func quantiles(ns []int64) map[string]int64 {
	if len(ns) == 0 {
		return nil
	}
	slices.Sort(ns)
	at := func(share float64) int64 { return ns[int(share*float64(len(ns)-1))] / 1000 }
	return map[string]int64{"p50": at(0.5), "p90": at(0.9), "p99": at(0.99)}
}
