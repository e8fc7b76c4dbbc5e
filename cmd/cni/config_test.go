package cni

import (
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
	} {
		_, err := parse([]byte(`{"cniVersion":"1.0.0","name":"n","type":"podnic",` + test.in + `}`))
		if err == nil || !strings.HasSuffix(err.Error(), cannot+test.want) {
			t.Errorf("%s: %v, want %s", test.in, err, test.want)
		}
	}
	for _, in := range []string{`[]`, `"x"`, `1`} {
		if _, err := parse([]byte(in)); err == nil || !strings.HasSuffix(err.Error(), cannot+"it is not a JSON object") {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := parse([]byte(`{"tap":`)); err == nil {
		t.Error("half a configuration is one")
	}
}
