package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/podnic/podnic/cmd/agent/sidecar"
	"github.com/podnic/podnic/network"
)

// TestPodnicOfAnotherReleaseIsRefused by name and version, before anything is served.
func TestPodnicOfAnotherReleaseIsRefused(t *testing.T) {
	request, err := json.Marshal(sidecar.Request{Version: "v0.9.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func(before string) { version = before }(version)
	version = "v0.10.0"
	err = run([]string{string(request)})
	const want = "this podnic-sidecar is of version v0.10.0, and podnic of v0.9.0: install both from one release"
	if !network.IsRefusal(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}
