package command

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/identity"
)

func TestPlaceholdersAreReplaced(t *testing.T) {
	values := map[string]string{"PODNIC_TAP": "tap0", "PODNIC_TAP_1": "tap1"}
	for argument, want := range map[string]string{
		"tap,ifname=$(PODNIC_TAP),script=no": "tap,ifname=tap0,script=no",
		"$(PODNIC_TAP)$(PODNIC_TAP_1)":       "tap0tap1",
		"$$(PODNIC_TAP)":                     "$(PODNIC_TAP)",
		"$$$(PODNIC_TAP)":                    "$tap0",
		"$$$$(PODNIC_TAP)":                   "$$(PODNIC_TAP)",
		"$(PODNIC_NAME)":                     "$(PODNIC_NAME)",
		"$(date) $$ $1 ${PODNIC_TAP} $":      "$(date) $$ $1 ${PODNIC_TAP} $",
		"$(PODNIC_TAP":                       "$(PODNIC_TAP",
		"$()":                                "$()",
		"":                                   "",
	} {
		if got := Expand(argument, values); got != want {
			t.Errorf("%s becomes %s, want %s", argument, got, want)
		}
	}
}

func TestValuesOfSeveralInterfaces(t *testing.T) {
	mac := identity.MAC{2, 0, 0, 0, 0, 1}
	got := Values([]Interface{
		{Name: "eth0", Tap: "tap0", MAC: mac, MTU: 1450, Queues: 2, Files: []*os.File{nil, nil}},
		{Name: "net1", Tap: "tap1", MAC: mac, MTU: 1500, Queues: 1, Files: []*os.File{nil}},
	})
	want := map[string]string{
		"PODNIC_INTERFACE": "eth0", "PODNIC_TAP": "tap0", "PODNIC_MAC": "02:00:00:00:00:01", "PODNIC_MTU": "1450",
		"PODNIC_QUEUES": "2", "PODNIC_TAP_FD": "3:4",
		"PODNIC_INTERFACE_1": "net1", "PODNIC_TAP_1": "tap1", "PODNIC_MAC_1": "02:00:00:00:00:01", "PODNIC_MTU_1": "1500",
		"PODNIC_QUEUES_1": "1", "PODNIC_TAP_FD_1": "5",
		"PODNIC_INTERFACES": `[{"interface":"eth0","tap":"tap0","mac":"02:00:00:00:00:01","mtu":1450,"queues":2,"tapFd":"3:4"},` +
			`{"interface":"net1","tap":"tap1","mac":"02:00:00:00:00:01","mtu":1500,"queues":1,"tapFd":"5"}]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUseOfAPlaceholderIsSeen(t *testing.T) {
	for argument, want := range map[string]bool{
		"fd=$(PODNIC_TAP_FD)": true, "fd=$(PODNIC_TAP_FD_1)": true, "$$(PODNIC_TAP_FD)": false, "$(PODNIC_TAP)": false,
	} {
		if got := Uses([]string{"qemu", argument}, "PODNIC_TAP_FD"); got != want {
			t.Errorf("%s uses it: %v", argument, got)
		}
	}
}
