package cni

import (
	"slices"
	"strings"
	"testing"
)

// TestWrongValueIsNamedByItsKey, in JSON's words and not in Go's.
func TestWrongValueIsNamedByItsKey(t *testing.T) {
	const cannot = "the network configuration cannot be decoded: "
	for _, test := range []struct{ in, want string }{
		{`"queues":"two"`, `queues takes a whole number, not "two"`},
		{`"queues":2.5`, "queues takes a whole number, not 2.5"},
		{`"owner":-1`, "owner takes a uid, a whole number, not -1"},
		{`"group":"kvm"`, `group takes a gid, a whole number, not "kvm"`},
		{`"logLevel":"loud"`, `logLevel takes debug, info, warn or error, not "loud"`},
		{`"logLevel":1`, "logLevel takes debug, info, warn or error, not 1"},
		{`"spoofGuard":"on"`, `spoofGuard takes true or false, not "on"`},
		{`"binding":["bridge"]`, `binding takes a text, not ["bridge"]`},
		{`"podPorts":80`, `podPorts takes a list of ports such as "80/tcp" or "8080-8083", not 80`},
		{`"podPorts":["80/sctp"]`, `podPorts takes a list of ports such as "80/tcp" or "8080-8083", not ["80/sctp"]`},
		{`"sourcePorts":"9-1"`, `sourcePorts takes a range of ports such as "28232-32767", not "9-1"`},
		{`"args":"x"`, `args takes an object, not "x"`},
		{`"tap":["` + strings.Repeat("x", 100) + `"]`, `tap takes a text, not ["` + strings.Repeat("x", 58) + `…`},
		{`"queues":"two","tap":9`, `queues takes a whole number, not "two"`},
		{`"prevResult":"x"`, `prevResult takes an object, not "x"`},
		{`"cni.dev/valid-attachments":"x"`, `cni.dev/valid-attachments takes a list of objects, not "x"`},
		{`"Queues":"two"`, `Queues takes a whole number, not "two"`},
		{`"TAP":9`, `TAP takes a text, not 9`},
	} {
		_, err := parse([]byte(`{"cniVersion":"1.0.0","name":"n","type":"podnic",`+test.in+`}`), refuse)
		if err == nil || !strings.HasSuffix(err.Error(), cannot+test.want) {
			t.Errorf("%s: %v, want %s", test.in, err, test.want)
		}
	}
	for _, in := range []string{`[]`, `"x"`, `1`} {
		if _, err := parse([]byte(in), refuse); err == nil || !strings.HasSuffix(err.Error(), cannot+"it is not a JSON object") {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := parse([]byte(`{"tap":`), refuse); err == nil {
		t.Error("half a configuration is one")
	}
	for key := range takes {
		if !slices.Contains(known, key) {
			t.Errorf("nobody knows the key %s", key)
		}
	}
}

// refuse takes no key whose value is wrong.
func refuse(err error) error { return err }

// TestWrongValuesAreLeftOut where they are accepted, and all others are kept, before them and behind.
func TestWrongValuesAreLeftOut(t *testing.T) {
	var left []string
	c, err := parse([]byte(`{"cniVersion":"1.0.0","name":"n","type":"podnic","interface":"net1","podPorts":["80/tcp","80/sctp"],"queues":"two","stateDir":"/s","tap":"tap7"}`),
		func(err error) error { left = append(left, err.Error()); return nil })
	if err != nil || c.Name != "n" || c.Interface != "net1" || c.StateDir != "/s" || c.Tap != "tap7" || c.PodPorts != nil || c.Queues != 0 {
		t.Errorf("%v, %+v", err, c)
	}
	if len(left) != 2 || !strings.HasPrefix(left[0], "podPorts takes") || !strings.HasPrefix(left[1], "queues takes") {
		t.Errorf("left out are %q", left)
	}
}
