package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// programs are those that a launcher pod runs.
var programs = []string{"podnic", "podnic-libvirt", "libvirtd", "qemu-system-x86_64"}

// podCgroup is part of the name of every pod's control group, whatever driver makes it.
const podCgroup = "kubepods"

// What podnic makes has the upper byte of its link's group (network/plan/mark.go), and the beginning of its table's name.
const (
	markBase    = 0x70000000
	markMask    = 0xff000000
	tablePrefix = "podnic-"
)

// look prints what launcher pods could leave behind, in an order that does not change: the node's ends of pods' links, links
// and tables that podnic made, and launchers' processes. A pod's link has an index at its end, so what counts is that it is
// one. What belongs to others, the pods of these UIDs, is left out: they come and go as they like.
func look(out io.Writer, all []process, others []string) error {
	theirs := make(map[int]bool) // ids that the node's namespace has for those of the others' processes
	var lines []string
	for _, p := range all {
		switch {
		case p.of(others):
			if id, err := netlink.GetNetNsIdByPid(p.pid); err == nil && id >= 0 { // one that has ended has no links either
				theirs[id] = true
			}
		case slices.Contains(programs, p.program) && bytes.Contains(p.cgroups, []byte(podCgroup)):
			lines = append(lines, "process "+p.program)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		switch a := l.Attrs(); {
		case a.Group&markMask == markBase:
			lines = append(lines, fmt.Sprintf("link %s %s of podnic", l.Type(), a.Name))
		case l.Type() == "veth" && !theirs[a.NetNsID]:
			lines = append(lines, "link of a pod")
		}
	}
	tables, err := (&nftables.Conn{}).ListTables()
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		if strings.HasPrefix(t.Name, tablePrefix) {
			lines = append(lines, fmt.Sprintf("table %d %s", t.Family, t.Name))
		}
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return nil
}
