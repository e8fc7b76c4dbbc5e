package main

// areas are the tables, in the order in which a guest meets what they measure.
var areas = []area{
	{
		title: "Rewire",
		says: `A pod of kind's network ("ptp"). The bare program sends the fewest requests that make the same changes, with no snapshot,
record or check; its state and podnic's are on tmpfs, and what fsync on a disk adds stands apart.`,
		rows: []row{
			{what: "prepare, in-process", of: took("Prepare/podnic"), peer: took("Prepare/bare"), words: "the bare program", ratio: 1.5},
			{what: "the same, state on a disk", of: took("Prepare/podnic-on-disk")},
			{what: "restore, in-process", of: took("Restore/podnic"), peer: took("Restore/bare"), words: "the bare program", ratio: 1.5},
			{what: "the same, state on a disk", of: took("Restore/podnic-on-disk")},
			{what: "`podnic prepare`", of: took("Command/podnic"), peer: took("Command/script-and-nft"), words: "iproute2 script, nft", ratio: 0.3},
			{what: "", of: took("Command/podnic"), peer: took("Command/script"), words: "the script without the filter"},
			{what: "", of: took("Command/podnic"), peer: took("Command/batch-and-nft"), words: "`ip -batch`, nft", ratio: 1},
			{what: "", of: took("Command/podnic"), peer: took("Command/batch"), words: "`ip -batch` without the filter"},
			{what: "8 pods at once", of: took("EightPods/at-once"), peer: took("EightPods/in-turn"), words: "8 in turn", ratio: 1},
			{what: "prepare, 10 pods wired", of: took("WiredPods/10"), peer: took("WiredPods/1"), words: "1 pod wired"},
			{what: "prepare, 100 pods wired", of: took("WiredPods/100"), peer: took("WiredPods/1"), words: "1 pod wired"},
			{what: "prepare, 300 pods wired", of: took("WiredPods/300"), peer: took("WiredPods/1"), words: "1 pod wired"},
		},
	},
	{
		title: "A guest",
		says: `From exec until a real guest (Debian's cloud kernel and busybox) has its lease. The script wires by ip(8) as KubeVirt's first
bridge binding did, starts dnsmasq, and starts the guest by virsh; it puts nothing on record and takes nothing back.`,
		rows: []row{
			{what: "`podnic run` to the lease", of: took("Guest/podnic"), peer: took("Guest/script"), words: "the script"},
		},
	},
	{
		title: "libvirt's hook",
		says: `From exec to exit. Each call of libvirt's costs this much; a domain that is not podnic's is left alone. The state directory is
on tmpfs, as /run is.`,
		rows: []row{
			{what: "a domain that is not podnic's", of: took("HookForeign/podnic"), peer: took("HookForeign/empty"), words: "a Go program that does nothing", ratio: 3},
			{what: "", of: took("HookForeign/podnic"), peer: took("HookForeign/sh"), words: "`sh -c :`"},
			{what: "", of: took("HookForeign/podnic"), peer: took("HookForeign/python3"), words: "`python3 -c pass`"},
			{what: "`prepare begin` to a ready server", of: took("HookPrepare/ready"), limit: 25e6},
			{what: "`release end` to a restored pod", of: took("HookPrepare/release")},
		},
	},
	{
		title: "Throughput",
		says:  `Frames of UDP that fill the MTU, written to the tap in the guest's place, as fast as the wiring takes them.`,
		rows: []row{
			{
				what: "a frame, server listening", of: took("Throughput/frame"), peer: figure{"Throughput/frame", "without-ns/op"},
				words: "no server",
			},
		},
	},
	{
		title: "Many pods",
		says: "`podnic prepare` and `podnic serve` in each pod, one after the other, until the server hears the guest. Memory is that of all\n" +
			"servers, with what they share counted once; dnsmasq is in pods that nobody wired.",
		rows: podsRows(),
	},
}

func podsRows() (rows []row) {
	for _, n := range []string{"1", "10", "100", "300"} {
		pods := n + " pods"
		if n == "1" {
			pods = "1 pod"
		}
		rows = append(rows,
			row{what: pods + ", each", of: took("Pods/" + n + "/podnic")},
			row{
				what: pods + ", memory in all", of: figure{"Pods/" + n + "/podnic", "all-B"},
				peer: figure{"Pods/" + n + "/dnsmasq", "all-B"}, words: "dnsmasq",
			})
	}
	return rows
}
