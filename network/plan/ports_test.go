package plan

import (
	"encoding/json"
	"testing"
)

func TestPortsAreInOrderAndApart(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"80":                         "80",
		"443,80/tcp":                 "80/tcp,443",
		"80/tcp,80/udp":              "80",
		"80-90/tcp,85-95/tcp,96/tcp": "80-96/tcp",
		"53/udp,8080-8083,8081/tcp":  "53/udp,8080-8083",
		"1-65535":                    "1-65535",
		"8080/tcp,8080,9000/udp":     "8080,9000/udp",
		"80-90,90-100/udp":           "80-90/tcp,80-100/udp",
		"65535/udp,65534/udp,1/tcp":  "1/tcp,65534-65535/udp",
	} {
		ports, err := ParsePorts(text)
		if err != nil || ports.String() != want {
			t.Errorf("%q is %q: %v", text, ports, err)
		}
		b, err := json.Marshal(ports)
		var read Ports
		if err == nil {
			err = json.Unmarshal(b, &read)
		}
		if err != nil || read.String() != want {
			t.Errorf("%q in JSON is %s: %v", text, b, err)
		}
	}
	for _, text := range []string{"0", "x", "80-", "-80", "90-80", "65536", "80/sctp", "80/", "80,", ",80", "80-90-100", "8 0"} {
		if ports, err := ParsePorts(text); err == nil {
			t.Errorf("%q is taken for %q", text, ports)
		}
	}
}
