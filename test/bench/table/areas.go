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
		title: "An earlier podnic",
		says: `Both programs, in turn. Commands are from exec to exit, on a pod of kind's network; messages and memory are those of the
table of DHCP. Beside one whose server did not yet confine itself (ADR 22), ready comes half a millisecond later.`,
		rows: earlierRows(),
	},
	{
		title: "Bindings",
		says: `The same pod, in-process. That tc redirects is told beforehand: where a kernel shows it first, there is a grace period more.
A frame is processor time between tap and pod network, with the system calls that write it at one end and read it at the
other, which are the same for all.`,
		rows: []row{
			{what: "prepare, redirect", of: took("Joints/prepare/redirect"), peer: took("Joints/prepare/bridge"), words: "the bridge", ratio: 0.8},
			{what: "prepare, redirect by tc", of: took("Joints/prepare/redirect_by_tc"), peer: took("Joints/prepare/bridge"), words: "the bridge"},
			{what: "restore, redirect", of: took("Joints/restore/redirect"), peer: took("Joints/restore/bridge"), words: "the bridge", ratio: 0.7},
			{what: "restore, redirect by tc", of: took("Joints/restore/redirect_by_tc"), peer: took("Joints/restore/bridge"), words: "the bridge"},
			{what: "a frame both ways, redirect", of: frame("redirect"), peer: frame("bridge"), words: "the bridge", ratio: 0.85},
			{what: "prepare, shared", of: took("Joints/prepare/shared"), peer: took("Joints/prepare/redirect"), words: "the redirect"},
			{what: "restore, shared", of: took("Joints/restore/shared"), peer: took("Joints/restore/redirect"), words: "the redirect"},
			{what: "a frame both ways, shared", of: frame("shared"), peer: frame("redirect"), words: "the redirect", ratio: 1.1},
			{what: "a frame both ways, redirect by tc", of: frame("tc"), peer: frame("bridge"), words: "the bridge"},
			{what: "a frame both ways, the bridge", of: frame("bridge"), peer: frame("bridge-without-filter"), words: "without its filter"},
			{what: "a frame out, redirect", of: frame("redirect-out"), peer: frame("bridge-out"), words: "the bridge"},
			{what: "a frame in, redirect", of: frame("redirect-in"), peer: frame("bridge-in"), words: "the bridge"},
		},
	},
	{
		title: "Beside the alternatives",
		says: `What KubeVirt's core bindings and its plugin for macvtap make of a pod (read in its source at commit d923fdb), made by
ip(8) and nft(8), and not by KubeVirt. A frame is that of the table above; before it is measured, one has arrived each
way. That of a macvtap goes to the node's card, here a veth too, the others' to the node's end of the pod's veth, from
where the node has yet to carry it. Set-up is from exec to exit, each in a pod of its own and in turn: the others' is one
` + "`ip -batch`" + `, and for masquerade one ` + "`nft -f`" + `, where KubeVirt runs nft 13 times; they find nothing out and keep no record. passt is
set up when a guest can connect to it.`,
		rows: alternativeRows(),
	},
	{
		title: "Several interfaces",
		says: `What each further interface costs beside the first: one prepare of one, and of four, in-process; and a server at rest that serves
one, and five.`,
		rows: []row{
			{what: "prepare, each further interface", of: took("Interfaces/further"), peer: took("Interfaces/first"), words: "the first", ratio: 0.8},
			{what: "a server's anonymous memory, each further", of: figure{"InterfacesRest", "further-B"}, peer: figure{"InterfacesRest", "first-B"},
				words: "with the first", limit: 0.25 * (1 << 20)},
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
		title: "IPv6",
		says: `The same for a pod that has both families. dnsmasq (--enable-ra) serves IPv6 alone, on a bridge without a filter. An exchange
has four messages. The minute of silence is one between router advertisements; Go's runtime looks about once in it. Link up to usable IPv6 is with
systemd-networkd behind the tap, until its address is no longer tentative and it has a default route: mostly what
duplicate address detection waits for.`,
		rows: dualRows(),
	},
	{
		title: "A guest",
		says: `From exec until a real guest (Debian's cloud kernel and busybox) has its lease; that of IPv6 is dhclient's, with a route. The
script wires by ip(8) as KubeVirt's first bridge binding did, starts dnsmasq, and starts the guest by virsh; it puts nothing
on record and takes nothing back.`,
		rows: []row{
			{what: "`podnic run` to the lease", of: took("Guest/podnic"), peer: took("Guest/script"), words: "the script"},
			{what: "`podnic run` to the lease of IPv6", of: took("Guest6/podnic"), peer: took("Guest6/script"), words: "the script", ratio: 1},
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
		title: "Guest and containers at one address",
		says: `A guest with the pod's address: beside a redirect, and beside passt, which gives its guests the pod's address by a
process that makes connections of their frames. QEMU's user networking does that too, for a guest that has another
address; QEMU runs without a machine. A namespace plays the guest, and one program carries its frames to the tap or to
a socket of passt's or QEMU's; behind the last, frames are of 1500 bytes, and the guest computes their checksums,
since QEMU takes no others there. TCP goes 128 MiB each way, an eighth of it by QEMU. Processor time is that of all of
it; that of the ends alone was measured without a pod in between, and what is left is the way itself. A stream of
passt's, as Debian 12 has it, may stand still: passt loses data that it has read from its socket, and the guest's TCP
sends it again after 200 ms and more, which rows below count; nothing is lost on the way to passt. passt and QEMU
have one port to listen on; what the kernel keeps for passt's sockets is not in its memory, and QEMU's memory is
mostly an emulator's, and left out.`,
		rows: sharingRows(),
	},
	{
		title: "Many pods",
		says: "`podnic prepare` and `podnic serve` in each pod, one after the other, until the server hears the guest. Memory is that of all\n" +
			"servers, with what they share counted once; dnsmasq is in pods that nobody wired.",
		rows: podsRows(),
	},
}

// frame is the processor time of one in a wiring.
func frame(wiring string) figure { return figure{"Frame/both", wiring + "-ns/op"} }

// setUp is what a wiring takes.
func setUp(wiring string) figure { return figure{"SetUp/all", wiring + "-ns/op"} }

// alternatives are what is not podnic's, as the benchmarks name it and as people do.
var alternatives = map[string]string{
	"kubevirt-bridge": "KubeVirt's bridge", "kubevirt-masquerade": "KubeVirt's masquerade", "macvtap": "a macvtap", "passt": "passt",
}

// alternativeRows are podnic's bindings beside what they would be taken in place of.
func alternativeRows() (rows []row) {
	for _, kind := range []struct {
		what  string
		of    func(string) figure
		pairs [][2]string
	}{
		{"a frame both ways, ", frame, [][2]string{
			{"bridge", "kubevirt-bridge"}, {"redirect", "kubevirt-bridge"}, {"redirect", "kubevirt-masquerade"}, {"shared", "kubevirt-masquerade"},
			{"redirect", "macvtap"},
		}},
		{"`podnic prepare`, ", setUp, [][2]string{
			{"bridge", "kubevirt-bridge"}, {"redirect", "kubevirt-bridge"}, {"redirect", "kubevirt-masquerade"}, {"shared", "kubevirt-masquerade"},
			{"redirect", "macvtap"}, {"shared", "passt"},
		}},
	} {
		for _, p := range kind.pairs {
			rows = append(rows, row{what: kind.what + p[0], of: kind.of(p[0]), peer: kind.of(p[1]), words: alternatives[p[1]], pair: true})
		}
	}
	return rows
}

func sharingRows() (rows []row) {
	of := func(way, unit string) figure { return figure{"Sharing/both", way + "-" + unit} }
	for _, r := range []struct {
		what, unit string
		goals      map[string]float64
	}{
		{"GiB a second, out", "out-GiB/s", nil},
		{"GiB a second, in", "in-GiB/s", nil},
		{"a byte there and back, p50", "p50-ns/op", map[string]float64{"redirect": 1.1}},
		{"a byte there and back, p99", "p99-ns/op", nil},
		{"processor time a GiB, with the ends", "cpu-ns/op", map[string]float64{"redirect": 1.1}},
		{"timeouts of the guest's TCP, in all", "timeouts", nil},
		{"processor time a GiB, of the way", "path-ns/op", map[string]float64{"passt": 1. / 3}},
	} {
		for _, peer := range []struct{ name, words string }{{"redirect", "redirect"}, {"passt", "passt"}, {"slirp", "QEMU user networking"}} {
			if peer.name == "redirect" && r.unit == "path-ns/op" {
				continue // either is lost in that of the ends
			}
			rows = append(rows, row{what: r.what, of: of("shared", r.unit), peer: of(peer.name, r.unit), words: peer.words, ratio: r.goals[peer.name]})
		}
	}
	return append(rows, row{what: "resident, idle: podnic serve", of: figure{"DHCPRest/podnic", "rss-B"}, peer: of("passt", "rss-B"), words: "passt"})
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

// measured is a figure that is taken of a server in each mode.
type measured struct {
	what, benchmark, unit string
	ratio, limit          float64
	never                 bool
}

func dhcpRows() []row {
	return serverRows("", []measured{
		{"DISCOVER to ACK, p50", "DHCPExchange", "p50-ns/op", 1, 0, false},
		{"DISCOVER to ACK, p99", "DHCPExchange", "p99-ns/op", 1, 0, false},
		{"processor time for a message", "DHCPExchange", "cpu-ns/op", 0, 40e3, false},
		{"from exec until ready, p50", "DHCPReady", "p50-ns/op", 0, 10e6, false},
		{"from exec until ready, p99", "DHCPReady", "p99-ns/op", 0, 10e6, false},
		{"resident, idle", "DHCPRest", "rss-B", 0, 8 << 20, false},
		{"anonymous, idle", "DHCPRest", "anon-B", 0, 2 << 20, false},
		{"resident after 100,000 exchanges", "DHCPMemory", "rss-B", 0, 10 << 20, false},
		{"wake-ups a second, guest silent", "DHCPIdle", "wakeups/s", 0, 0, true},
		{"wake-ups while a GiB passes", "DHCPIdle", "switches/GiB", 0, 0, true},
	})
}

func dualRows() []row {
	return serverRows("-dual", []measured{
		{"SOLICIT to REPLY, p50", "DHCP6Exchange", "p50-ns/op", 1, 0, false},
		{"SOLICIT to REPLY, p99", "DHCP6Exchange", "p99-ns/op", 1, 0, false},
		{"processor time for a message", "DHCP6Exchange", "cpu-ns/op", 0, 0, false},
		{"resident, idle", "DHCP6Rest", "rss-B", 0, 8 << 20, false},
		{"anonymous, idle", "DHCP6Rest", "anon-B", 0, 2.2 * (1 << 20), false},
		{"wake-ups in a minute of silence", "DHCP6Idle", "wakeups/min", 0, 0, true},
		{"link up to usable IPv6", "Usable6", "ns/op", 1, 0, false},
	})
}

// serverRows are figures of podnic in both modes, beside dnsmasq's; kind is the end of the servers' names.
func serverRows(kind string, all []measured) (rows []row) {
	for _, r := range all {
		for _, server := range []struct{ name, words string }{{"podnic", ""}, {"podnic-udp", ", UDP mode"}} {
			figureOf := func(name string) figure { return figure{r.benchmark + "/" + name + kind, r.unit} }
			rows = append(rows, row{
				what: r.what + server.words, of: figureOf(server.name), peer: figureOf("dnsmasq"), words: "dnsmasq",
				ratio: r.ratio, limit: r.limit, never: r.never,
			})
		}
	}
	return rows
}

// tolerance is how much more than an earlier podnic this one may take.
const tolerance = 1.05

// earlierRows are podnic beside an earlier one, where there is one.
func earlierRows() (rows []row) {
	add := func(what string, of, peer figure) {
		rows = append(rows, row{what: what, of: of, peer: peer, words: "before", ratio: tolerance, pair: true})
	}
	for _, r := range []struct{ what, name string }{
		{"`podnic prepare`", "prepare"}, {"`podnic restore`", "restore"}, {"hook: a domain that is not podnic's", "hook-foreign"},
		{"hook: `prepare begin` to a ready server", "hook-ready"}, {"hook: `release end` to a restored pod", "hook-release"},
	} {
		add(r.what, took("Earlier/"+r.name+"/podnic"), took("Earlier/"+r.name+"/earlier"))
	}
	for _, r := range []struct{ what, benchmark, unit string }{
		{"DISCOVER to ACK, p50", "Exchange", "p50-ns/op"}, {"processor time for a message", "Exchange", "cpu-ns/op"},
		{"from exec until ready, p50", "Ready", "p50-ns/op"}, {"resident, idle", "Rest", "rss-B"}, {"anonymous, idle", "Rest", "anon-B"},
	} {
		for _, mode := range []struct{ name, words string }{{"", ""}, {"-udp", ", UDP mode"}} {
			of := func(server string) figure { return figure{"DHCP" + r.benchmark + "/" + server + mode.name, r.unit} }
			add(r.what+mode.words, of("podnic"), of("earlier"))
		}
	}
	return rows
}
