package domain

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// interfaceXML is the interface of vmXML with its link in a state.
func interfaceXML(state string) string {
	return fmt.Sprintf("<interface type=\"ethernet\"><target dev=\"tap0\" managed=\"no\"/><link state=%q/></interface>\n", state)
}

func domainXML(state string) string {
	return "<domain type='qemu'><name>vm</name><devices>" + interfaceXML(state) + "</devices></domain>"
}

// TestGuestsLinkFollowsTheCarrier plays what happens to carrier, libvirt and link, step by step, and looks at what libvirt
// was asked for and what was noted.
func TestGuestsLinkFollowsTheCarrier(t *testing.T) {
	const up, down = true, false
	type place struct {
		carrier chan bool
		daemon  *daemon
	}
	lose := func(carrier bool) func(place) { return func(p place) { p.carrier <- carrier } }
	others := func(state string) func(place) {
		return func(p place) {
			p.daemon.mu.Lock()
			defer p.daemon.mu.Unlock()
			p.daemon.xml = domainXML(state)
		}
	}
	wait := func(place) { time.Sleep(10 * time.Second) }
	for name, test := range map[string]struct {
		xml     string
		lowered bool // by an earlier process
		steps   []func(place)
		asked   []string
		noted   []bool
	}{
		"there all the time":      {steps: []func(place){lose(up)}},
		"lost, and back":          {steps: []func(place){lose(up), lose(down), lose(up)}, asked: []string{"down", "up"}, noted: []bool{true, false}},
		"not there at first":      {steps: []func(place){lose(down), lose(up)}, asked: []string{"down", "up"}, noted: []bool{true, false}},
		"down by somebody else":   {xml: domainXML("down"), steps: []func(place){lose(up), lose(down), lose(up)}},
		"somebody else meanwhile": {steps: []func(place){lose(up), others("down"), lose(down), lose(up)}},
		"somebody else puts it up": {
			steps: []func(place){lose(down), others("up"), lose(up), others("down"), lose(down), lose(up)},
			asked: []string{"down"}, noted: []bool{true, false},
		},
		"after an adoption, still lost": {xml: domainXML("down"), lowered: true, steps: []func(place){lose(down)}},
		"after an adoption, back": {
			xml: domainXML("down"), lowered: true, steps: []func(place){lose(up)}, asked: []string{"up"}, noted: []bool{false},
		},
		"after an adoption, up already": {lowered: true, steps: []func(place){lose(up)}, noted: []bool{false}},
		"lost while libvirt is away": {
			steps: []func(place){lose(up), func(p place) { p.daemon.leave() }, lose(down), wait, func(p place) { p.daemon.come() }, wait},
			asked: []string{"down"}, noted: []bool{true},
		},
		"back while libvirt is away": {
			steps: []func(place){lose(down), func(p place) { p.daemon.leave() }, lose(up), wait, func(p place) { p.daemon.come() }, wait},
			asked: []string{"down", "up"}, noted: []bool{true, false},
		},
		"lost and back while libvirt is away": {
			steps: []func(place){lose(up), func(p place) { p.daemon.leave() }, lose(down), wait, lose(up), func(p place) { p.daemon.come() }, wait},
		},
		"libvirt is busy": {
			steps: []func(place){
				func(p place) { p.daemon.busy = errors.New("the monitor is busy") }, lose(down), wait,
				func(p place) { p.daemon.mu.Lock(); p.daemon.busy = nil; p.daemon.mu.Unlock() }, wait,
			},
			asked: []string{"down"}, noted: []bool{true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := place{make(chan bool), &daemon{xml: test.xml}}
				g := started(t, p.daemon)
				var noted []bool
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					g.FollowCarrier(t.Context(), "tap0", p.carrier, test.lowered, func(lowered bool) { noted = append(noted, lowered) })
				}()
				for _, step := range test.steps {
					step(p)
					synctest.Wait()
				}
				p.daemon.tell(shutDown)
				<-ended
				var asked []string
				for _, state := range test.asked {
					asked = append(asked, interfaceXML(state))
				}
				if diff := cmp.Diff(asked, p.daemon.updates); diff != "" {
					t.Errorf("asked of libvirt (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(test.noted, noted); diff != "" {
					t.Errorf("noted (-want +got):\n%s", diff)
				}
			})
		})
	}
}
