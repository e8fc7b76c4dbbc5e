package serving

import (
	"sync"
	"testing"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// TestScrapeWhileTheConfigurationIsReadAgain is for the race detector, with which make check runs it: Prometheus asks when it
// likes, also while SIGHUP replaces what the server was configured with.
func TestScrapeWhileTheConfigurationIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	service := offering.Service{Version: "v1"}
	service.Again = func() (offering.Service, error) { return service, nil }
	layer2 := &network.Inspection{Original: &plan.Snapshot{Links: []plan.Link{{Role: plan.NIC, Name: "eth0", Index: 2}}}}
	s := &Server{
		req: network.Request{StateDir: dir}, service: service, wiring: layer2,
		keeper: statefile.NewKeeper(nil, statefile.State{}, func(err error) { t.Error(err) }), log: zap.NewNop(),
	}
	defer s.keeper.Close()
	set := &Set{service: service, members: []*member{{Server: s}}}
	var scrapes sync.WaitGroup
	scrapes.Go(func() {
		for range 20 {
			set.scrape()
		}
	})
	for range 20 {
		s.reload()
	}
	scrapes.Wait()
}
