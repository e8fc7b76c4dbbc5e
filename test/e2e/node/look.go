package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// programs are those that a launcher pod runs.
var programs = []string{"podnic", "podnic-libvirt", "libvirtd", "qemu-system-x86_64"}

// podCgroup is part of the name of every pod's control group, whatever driver makes it.
const podCgroup = "kubepods"

// look prints what a pod could leave behind, in an order that does not change. A link of a pod has an index at its end, so
// what counts is its kind; the node's other links are told by their names.
func look(out io.Writer) error {
	var lines []string
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() == "veth" {
			name = "of a pod"
		}
		lines = append(lines, fmt.Sprintf("link %s %s group %d", l.Type(), name, l.Attrs().Group))
	}
	tables, err := (&nftables.Conn{}).ListTables()
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("table %d %s", t.Family, t.Name))
	}
	processes, err := processes()
	if err != nil {
		return err
	}
	for _, p := range processes {
		if slices.Contains(programs, p.program) && bytes.Contains(p.cgroups, []byte(podCgroup)) {
			lines = append(lines, "process "+p.program)
		}
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return nil
}
