// Package kernels runs tests of other packages as root on other kernels than this machine's: in virtual machines that boot
// those which scripts/setup unpacks. One boot runs all that is chosen for it.
package kernels

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/podtest"
)

// choice is a test, and of those with many cases the ones to run: emulated, all of them would take a quarter of an hour.
type choice struct {
	// suite is the package; empty is network.
	suite string
	test  string
	cases []string
}

// everywhere is what runs on each kernel.
var everywhere = []choice{
	// What differs between kernels is what they take along when a link goes down or gets another name, and what they say of
	// addresses, routes and neighbours.
	{test: "TestRestoreIsTheInverseOfPrepare", cases: []string{
		"bridge/much of everything", "bridge/addresses of every kind", "bridge/routes of every kind",
		"bridge/neighbours of every kind", "redirect/much of everything",
	}},
	{test: "TestGuestHasALinkOfEachKind", cases: []string{
		"macvlan bridge", "ipvlan L2", "ipvlan L3", "ipvlan L3S", "vlan", "a network card",
		"a network card that merges",
	}},
	{test: "TestAddressesAreUsableAtOnce"},
	{test: "TestGuestIsHeldToTheRoutesThatBlock", cases: []string{"bridge, as they are"}},
	{test: "TestGuestCannotReachThePodsSockets", cases: []string{"bridge, packet", "redirect, packet", "redirect, udp"}},
	{test: "TestTapUnderAGuestIsNeverMadeAgain"},
	// What becomes of a chain whose link is deleted differs, and egress hooks are young.
	{test: "TestTapMadeAnewNeedsTheFilterAnew"},
	{test: "TestPodsOwnStackIsSilent", cases: []string{"redirect"}},
	// What nftables take for a port, and what becomes of checksums that are still to be made.
	{test: "TestContainersShareTheGuestsAddress", cases: []string{"bridge, packet"}},
	{test: "TestWhomAFrameIsFor"},
	// What nftables makes of datagrams, and of what the guest solicits.
	{suite: "dhcp", test: "TestExchangesIPv6ThroughAUDPSocket", cases: []string{"bridge", "redirect", "managedTap"}},
}

// machines are the kernels, and what runs on each.
var machines = []struct {
	kernel string
	phases []phase
}{
	{guest.Kernel, []phase{{chosen: append(everywhere,
		// A kernel in the machine's kernel. It takes as long as all of a redirect by tc does on the other.
		choice{suite: "test/command", test: "TestGuestOnTheNodesLinkIsThePod", cases: []string{"ipvlan"}},
		choice{test: "TestNftListsEveryWiring", cases: []string{"udp", "much of everything", "redirect, udp"}},
		choice{test: "TestReservedAddressesDoNotReachThePod", cases: []string{"redirect"}},
	)}}},
	{guest.NewerKernel, []phase{
		{lacks: "fwd", module: "nft_fwd_netdev", chosen: []choice{
			{test: "TestTCRedirectsWhereNftablesCannot", cases: []string{"no fwd"}},
			{test: "TestPodsOwnStackIsSilentByTC", cases: []string{"no fwd"}},
			{test: "TestRestoreIsTheInverseOfPrepare", cases: []string{"redirect by tc/much of everything"}},
		}},
		{chosen: append(everywhere,
			choice{test: "TestGuestHasALinkOfEachKind", cases: []string{"netkit L2", "netkit L3"}},
			choice{test: "TestReservedAddressesDoNotReachThePod", cases: []string{"packet"}},
		)},
	}},
	{guest.UserKernel, []phase{{lacks: "nftables", chosen: []choice{
		{test: "TestTCRedirectsWhereNftablesCannot", cases: []string{"no nf_tables"}},
		{test: "TestPodsOwnStackIsSilentByTC", cases: []string{"no nf_tables"}},
	}}}},
}

// phase is what runs in a machine before anything else is loaded into its kernel.
type phase struct {
	// lacks is what tests need not hide of the kernel, as PODNIC_TEST_LACKS has it: this one really lacks it.
	lacks string
	// module has that, and is loaded when the phase is over. Empty: nothing is.
	module string
	chosen []choice
}

func TestNetworkOnOtherKernels(t *testing.T) {
	podtest.NeedRoot(t)
	binaries := build(t)
	for _, machine := range machines {
		t.Run(machine.kernel, func(t *testing.T) {
			t.Parallel()
			for i, results := range boot(t, machine.kernel, binaries, machine.phases) {
				for _, r := range results {
					t.Logf("%s %s in %s", r.name, r.status, r.took)
				}
				for _, name := range machine.phases[i].names() {
					if complaint := judge(results, name); complaint != "" {
						t.Error(complaint)
					}
				}
			}
		})
	}
}

// names are those of the tests that are chosen, as testing calls them.
func (p phase) names() (names []string) {
	for _, c := range p.chosen {
		if len(c.cases) == 0 {
			names = append(names, c.test)
		}
		for _, text := range c.cases {
			names = append(names, c.test+"/"+strings.ReplaceAll(text, " ", "_"))
		}
	}
	return names
}

// pattern matches the tests of a suite that are chosen. Empty: none is.
func (p phase) pattern(suite string) string {
	of := phase{}
	for _, c := range p.chosen {
		if cmp.Or(c.suite, "network") == suite {
			of.chosen = append(of.chosen, c)
		}
	}
	var patterns []string
	for _, name := range of.names() {
		patterns = append(patterns, "^"+strings.ReplaceAll(regexp.QuoteMeta(name), "/", "$/^")+"$")
	}
	return strings.Join(patterns, "|")
}

// judge says what is wrong with a test of the machine; empty: it has passed.
func judge(results []result, name string) string {
	i := slices.IndexFunc(results, func(r result) bool { return r.name == name })
	switch {
	case i < 0:
		return name + " has not run, or not to its end"
	case results[i].status != "pass":
		return fmt.Sprintf("%s: %s\n%s", name, results[i].status, results[i].output)
	}
	return ""
}

// TestWhatHasNotPassedIsAComplaint takes what a test program says until its machine is gone.
func TestWhatHasNotPassedIsAComplaint(t *testing.T) {
	const log = "=== RUN   TestGood\r\n--- PASS: TestGood (0.10s)\r\n" +
		"=== RUN   TestBad\r\n    a_test.go:1: reason\r\n--- FAIL: TestBad (0.10s)\r\n" +
		"=== RUN   TestLeftOut\r\n--- SKIP: TestLeftOut (0.10s)\r\n=== RUN   TestCutShort\r\n"
	results, _ := parse(t, log)
	for name, want := range map[string]string{
		"TestGood": "", "TestBad": "reason", "TestLeftOut": "skip", "TestCutShort": "not to its end", "TestOther": "has not run",
	} {
		if got := judge(results, name); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
