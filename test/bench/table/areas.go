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
			{what: "prepare, 10 pods wired", of: took("WiredPods/10/podnic"), peer: took("WiredPods/1/podnic"), words: "1 pod wired"},
			{what: "prepare, 100 pods wired", of: took("WiredPods/100/podnic"), peer: took("WiredPods/1/podnic"), words: "1 pod wired"},
			{what: "prepare, 300 pods wired", of: took("WiredPods/300/podnic"), peer: took("WiredPods/1/podnic"), words: "1 pod wired"},
			{what: "", of: took("WiredPods/300/podnic"), peer: took("WiredPods/300/bare"), words: "the bare program, 300 wired", ratio: 1.5},
			{what: "the bare program, 300 wired", of: took("WiredPods/300/bare"), peer: took("WiredPods/1/bare"), words: "1 pod wired"},
		},
	},
	{
		title: "DHCP",
		says: `One client, the guest, on the wiring of each mode. dnsmasq has that of the UDP mode, since it needs a bridge with an
address; it neither pings an address nor writes a file of leases. A message is one of the guest, of which an exchange
has two. From exec until ready is until the server said that it can be asked. The GiB goes half out and half in.`,
		rows: dhcpRows(),
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
		title: "KubeVirt's sidecar",
		says:  `Memory of podnic-sidecar, idle after its start and the launcher's first call, and while it serves.`,
		rows: []row{
			{what: "resident, idle", of: figure{"Sidecar", "idle-resident-B"}, limit: 14 << 20},
			{what: "anonymous, idle", of: figure{"Sidecar", "idle-anonymous-B"}, limit: 2.5 * (1 << 20)},
			{what: "resident, serving", of: figure{"Sidecar", "serving-resident-B"}},
			{what: "anonymous, serving", of: figure{"Sidecar", "serving-anonymous-B"}},
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

func dhcpRows() (rows []row) {
	for _, r := range []struct {
		what, benchmark, unit string
		ratio, limit          float64
		never                 bool
	}{
		{"DISCOVER to ACK, p50", "Exchange", "p50-ns/op", 1, 0, false},
		{"DISCOVER to ACK, p99", "Exchange", "p99-ns/op", 1, 0, false},
		{"processor time for a message", "Exchange", "cpu-ns/op", 0, 40e3, false},
		{"from exec until ready, p50", "Ready", "p50-ns/op", 0, 10e6, false},
		{"from exec until ready, p99", "Ready", "p99-ns/op", 0, 10e6, false},
		{"resident, idle", "Rest", "rss-B", 0, 8 << 20, false},
		{"anonymous, idle", "Rest", "anon-B", 0, 2 << 20, false},
		{"resident after 100,000 exchanges", "Memory", "rss-B", 0, 10 << 20, false},
		{"wake-ups a second, guest silent", "Idle", "wakeups/s", 0, 0, true},
		{"wake-ups while a GiB passes", "Idle", "switches/GiB", 0, 0, true},
	} {
		for _, server := range []struct{ name, words string }{{"podnic", ""}, {"podnic-udp", ", UDP mode"}} {
			figureOf := func(name string) figure { return figure{"DHCP" + r.benchmark + "/" + name, r.unit} }
			rows = append(rows, row{
				what: r.what + server.words, of: figureOf(server.name), peer: figureOf("dnsmasq"), words: "dnsmasq",
				ratio: r.ratio, limit: r.limit, never: r.never,
			})
		}
	}
	return rows
}
