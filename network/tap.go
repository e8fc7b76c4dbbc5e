package network

import (
	"context"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/holding"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// Holding says which processes hold a tap.
type Holding struct {
	// Held says that somebody does: the tap has a carrier (tun_attach and tun_detach in drivers/net/tun.c). Nobody holds one that is
	// not there.
	Held bool
	// Holders are those that this process can see. A process of another user, or in another PID namespace, it cannot: to look
	// into /proc/PID/fdinfo requires the same user, or CAP_SYS_PTRACE.
	Holders []holding.Tap
}

// Who names the holders.
func (h Holding) Who() string {
	if len(h.Holders) == 0 {
		return "a process that this one cannot see (another container's, or another user's without CAP_SYS_PTRACE)"
	}
	words := make([]string, len(h.Holders))
	for i, holder := range h.Holders {
		words[i] = holder.String()
	}
	return strings.Join(words, " and ")
}

// InspectTap tells which processes hold a tap of the request's namespace. Nothing is changed.
func InspectTap(req Request, tap string) (Holding, error) {
	ns, err := OpenNamespace(req.Namespace)
	if err != nil {
		return Holding{}, err
	}
	defer ns.Close()
	r, err := rtnl.Open(ns)
	if err != nil {
		return Holding{}, err
	}
	defer r.Close()
	all, err := r.Links()
	if err != nil {
		return Holding{}, err
	}
	i := slices.IndexFunc(all, func(l plan.Link) bool { return l.Name == tap && l.Kind == plan.KindTun })
	if i < 0 || !all[i].LowerUp {
		return Holding{}, nil
	}
	holders, err := holding.OfTap(ns, tap)
	return Holding{Held: true, Holders: holders}, err
}

// EndHolder ends a process, unless it has ended or does not hold the tap of the request's namespace any more ([holding.Tap.End]).
func EndHolder(ctx context.Context, req Request, holder holding.Tap, tap string) error {
	ns, err := OpenNamespace(req.Namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	return holder.End(ctx, ns, tap)
}
