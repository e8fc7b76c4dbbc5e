package network

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestRecordIsInput changes one thing at a time in a record that podnic wrote. Restore would set links, addresses and routes
// by it, as root.
func TestRecordIsInput(t *testing.T) {
	good, err := os.ReadFile("testdata/record.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeRecord(good, "record.json"); err != nil {
		t.Fatal(err)
	}
	for change, word := range map[string]string{
		// the link
		`"role": "nic"` + "→" + `"role": "tap"`:                 "pod's interface",
		`"name": "eth0"` + "→" + `"name": "lo"`:                 "not eth0",
		`"index": 2` + "→" + `"index": 0`:                       "index 0",
		`"index": 2` + "→" + `"index": -1`:                      "index -1",
		`"index": 2` + "→" + `"index": 4294967298`:              "index 4294967298",
		`"kind": "veth"` + "→" + `"kind": "ve\u001bth"`:         "kind",
		`"mac": "0a:` + "→" + `"mac": "0b:`:                     "a group address",
		`"mtu": 1500` + "→" + `"mtu": 0`:                        "MTU",
		`"mtu": 1500` + "→" + `"mtu": 65536`:                    "MTU",
		`"group": 0` + "→" + `"group": 1879048194`:              "mark",
		`"txQueueLength": 1000` + "→" + `"txQueueLength": -1`:   "queue",
		`"addrGenMode": "eui64"` + "→" + `"addrGenMode": "x"`:   "addrgenmode",
		`"group": 0` + "→" + `"group": 0, "master": "bridge"`:   "port",
		`"group": 0` + "→" + `"group": 0, "masterIndex": 7`:     "port",
		`"group": 0` + "→" + `"group": 0, "altNames": ["a b"]`:  "name of a link",
		`"group": 0` + "→" + `"group": 0, "altNames": ["a/b"]`:  "name of a link",
		`"group": 0` + "→" + `"group": 0, "alias": "LONG"`:      "alias",
		`"links": [` + "→" + `"links": [{"role": "bridge"},`:    "2 links",
		`"interface": "eth0"` + "→" + `"interface": ".podnic"`:  "name of an interface",
		`"interface": "eth0"` + "→" + `"interface": "../../x"`:  "name of an interface",
		`"interface": "eth0"` + "→" + `"interface": "hook.log"`: "name of an interface",
		`"tap": "tap0"` + "→" + `"tap": "tap/0"`:                "name of a link",
		`"queues": 1` + "→" + `"queues": 100000`:                "queues",
		`"socket": "packet"` + "→" + `"socket": "x"`:            "socket",
		`"binding": "bridge"` + "→" + `"binding": "x"`:          "binding",
		// addresses
		`"link": "nic",
        "local": "10.` + "→" + `"link": "bridge",
        "local": "10.`: "another link",
		`"local": "10.244.1.5/24"` + "→" + `"local": ""`:               "not an address",
		`"broadcast": "10.244.1.255"` + "→" + `"broadcast": "fe80::1"`: "family",
		`"broadcast": "10.244.1.255"` + "→" + `"peer": "fe80::1"`:      "family",
		`"label": "eth0"` + "→" + `"label": "lo"`:                      "label",
		`"scope": 253,
        "protocol": 3` + "→" + `"flags": 128`: "flags",
		// routes
		`"gateway": "10.244.1.1"` + "→" + `"gateway": "fe80::1%eth0"`: "gateway",
		`{
            "link": "nic",
            "gateway": "10.244.1.1"
          }` + "→" + `{"otherIndex": 1}`: "not on the interface",
		`{
            "link": "nic",
            "gateway": "10.244.1.1"
          }` + "→" + `{"link": "nic"}, {"link": "tap"}`: "on no link",
		`"hops": [` + "→" + `"hops": [], "x": [`:                                "not on the interface",
		`"type": 1,` + "→" + `"type": 99,`:                                      "type",
		`"type": 1,` + "→" + `"type": 1, "metrics": {"99": 1},`:                 "metric",
		`"type": 1,` + "→" + `"type": 1, "congestion": "much too long a name",`: "congestion",
		`"prefsrc": "10.244.1.5"` + "→" + `"prefsrc": "fe80::1"`:                "family",
		// neighbours
		`"rules": [` + "→" + `"neighbours": [{"link": "placeholder", "address": "10.244.1.1"}], "rules": [`: "neighbour",
		// the rest
		`"version": 1` + "→" + `"version": 0`:     "version",
		`"cookie": ` + "→" + `"cookie": 0, "x": `: "namespace",
	} {
		from, to, _ := strings.Cut(change, "→")
		to = strings.ReplaceAll(to, "LONG", strings.Repeat("x", 256))
		text := strings.Replace(string(good), from, to, 1)
		if text == string(good) || !json.Valid([]byte(text)) {
			t.Errorf("no such change, or no JSON: %s", change)
			continue
		}
		if _, err := decodeRecord([]byte(text), "record.json"); !IsRefusal(err) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s is not refused with %q: %v", change, word, err)
		}
	}
	// A filter that was left over is not put back.
	withFilter := strings.Replace(string(good), `"rules": [`, `"filter": {"table": "anything", "rules": []}, "rules": [`, 1)
	if r, err := decodeRecord([]byte(withFilter), "record.json"); err != nil || r.Original.Filter != nil {
		t.Errorf("%v: a record brings a filter", err)
	}
}

// TestRecordOfTheFutureIsRefused as such, also where it is of a form that this podnic cannot read: by no other word would
// anybody know what to do.
func TestRecordOfTheFutureIsRefused(t *testing.T) {
	good, err := os.ReadFile("testdata/record.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"the same form": strings.Replace(string(good), `"version": 1`, `"version": 3`, 1),
		"another form":  `{"version": 3, "options": [], "original": "elsewhere"}`,
		"nothing else":  `{"version": 3}`,
	} {
		_, err := decodeRecord([]byte(text), "record.json")
		if !IsRefusal(err) || !strings.Contains(err.Error(), "written by a newer podnic (version 3, this one reads up to 2)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
