package network

import (
	"context"
	"slices"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// FollowCarrier tells whether a link of the namespace, by its index, has a carrier: at first, and whenever that has changed,
// until the context ends. A caller that does not listen gets the latest alone. A link that is down has none, nor has one that is gone.
func FollowCarrier(ctx context.Context, req Request, index int) (<-chan bool, error) {
	ns, err := OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	changed, stop, err := Watch(ns)
	if err != nil {
		ns.Close()
		return nil, err
	}
	conn, err := rtnl.Open(ns)
	if err != nil {
		stop()
		ns.Close()
		return nil, err
	}
	carrier := make(chan bool, 1)
	go func() {
		defer ns.Close()
		defer stop()
		defer conn.Close()
		told, known := false, false
		for {
			// What cannot be read is read again at the next change.
			if links, err := conn.Links(); err == nil {
				now := slices.ContainsFunc(links, func(l plan.Link) bool { return l.Index == index && l.Up && l.LowerUp })
				if !known || now != told {
					select {
					case <-carrier: // out of date
					default:
					}
					carrier <- now
					told, known = now, true
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return carrier, nil
}
