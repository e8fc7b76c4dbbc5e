package network

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestARecordOfProvideNamesNothingElse reads records that name what Provide never changes.
func TestARecordOfProvideNamesNothingElse(t *testing.T) {
	const namespace = `"version":1,"namespace":{"boot":"b","cookie":7}`
	for record, word := range map[string]string{
		`{` + namespace + `,"sysctls":{"net/ipv4/ip_unprivileged_port_start":"1024","net/ipv4/conf/all/rp_filter":"2"}}`: "",
		`{` + namespace + `,"links":{"interface":"eth0","nic":"eth0-nic","bridge":"k6t-eth0","tap":"tap0"}}`:             "",

		`{` + namespace + `,"sysctls":{"../../etc/cron.d/job":"1"}}`:                                                "not a setting",
		`{` + namespace + `,"sysctls":{"/kernel/core_pattern":"1"}}`:                                                "not a setting",
		`{` + namespace + `,"sysctls":{"net/ipv4/../ipv4/ip_unprivileged_port_start":"1"}}`:                         "not a setting",
		`{` + namespace + `,"sysctls":{"kernel/core_pattern":"|/tmp/x"}}`:                                           "not a setting",
		`{` + namespace + `,"sysctls":{"":"1"}}`:                                                                    "not a setting",
		`{` + namespace + `,"sysctls":{"net/ipv4/ip_unprivileged_port_start":"65536"}}`:                             "cannot hold",
		`{` + namespace + `,"sysctls":{"net/ipv4/ip_unprivileged_port_start":"-1"}}`:                                "cannot hold",
		`{` + namespace + `,"sysctls":{"net/ipv4/conf/all/rp_filter":"1\n2"}}`:                                      "cannot hold",
		`{` + namespace + `,"sysctls":{"net/ipv4/conf/all/rp_filter":"01"}}`:                                        "cannot hold",
		`{` + namespace + `,"sysctls":{"net/ipv4/conf/all/rp_filter":"99999999999"}}`:                               "cannot hold",
		`{` + namespace + `,"sysctls":{"net/ipv4/conf/all/rp_filter":""}}`:                                          "cannot hold",
		`{` + namespace + `,"links":{"interface":"../eth0","nic":"n","bridge":"b","tap":"t"}}`:                      "name of a link",
		`{` + namespace + `,"links":{"interface":"eth0","nic":"n","bridge":"b","tap":"sixteen-letters-"}}`:          "name of a link",
		`{` + namespace + `,"links":{"interface":"eth0","nic":"","bridge":"b","tap":"t"}}`:                          "name of a link",
		`{"namespace":{"boot":"b","cookie":7}}`:                                                                     "no version",
		`{"version":1}`:                                                                                             "names no namespace",
		`{"version":1,"namespace":{"boot":"b"}}`:                                                                    "names no namespace",
		`{"version":1,"namespace":{"boot":"b","cookie":7},"sysctls":{"net/ipv4/conf/all/rp_filter":{"no":"text"}}}`: "damaged",
		`{` + namespace + `,"blocked":[{"prefix":"203.0.113.0/24","but":["203.0.113.7/32"]},{"prefix":"::/0"}]}`:    "",
		`{` + namespace + `,"blocked":[{"prefix":"203.0.113.7/24"}]}`:                                               "cannot be blocked",
		`{` + namespace + `,"blocked":[{"prefix":""}]}`:                                                             "cannot be blocked",
		`{` + namespace + `,"blocked":[{"prefix":"203.0.113.0/24","but":["198.51.100.7/32"]}]}`:                     "no part",
		`{"version":2,"namespace":{"boot":"b","cookie":7},"links":{"interface":"eth0","nic":"n","bridge":"b","tap":"t"},"ipv6":"serve","guest":{"mac":"02:00:00:00:00:01"}}`: "",
		`{"version":3,"namespace":{"boot":"b","cookie":7}}`:                                                                              "newer podnic",
		`{` + namespace + `,"sysctls":{"net/ipv6/conf/default/disable_ipv6":"1"}}`:                                                       "",
		`{` + namespace + `,"ipv6":"serve"}`:                                                                                             "names no guest",
		`{` + namespace + `,"ipv6":"serve","guest":{"mac":"02:00:00:00:00:01"}}`:                                                         "IPv6 cannot be",
		`{` + namespace + `,"links":{},"ipv6":"pass","guest":{"mac":"02:00:00:00:00:01"}}`:                                               "IPv6 cannot be",
		`{` + namespace + `,"links":{},"ipv6":"serve","guest":{"mac":"03:00:00:00:00:01"}}`:                                              "cannot be a guest's MAC",
		`{` + namespace + `,"links":{},"ipv6":"serve","guest":{"mac":"02:00:00:00:00:01","alias":"a\u0000"}}`:                            "too long",
		`{` + namespace + `,"links":{},"ipv6":"off","guest":{"mac":"02:00:00:00:00:01","routers":[{"gateway":"10.0.0.1","mac":""}]}}`:    "is not a router",
		`{` + namespace + `,"links":{},"ipv6":"off","guest":{"mac":"02:00:00:00:00:01","neighbours":[{"address":"10.0.0.1","mac":""}]}}`: "is not an IPv6 address",
		`null`: "damaged",
	} {
		store := Store{t.TempDir(), "eth0"}
		path := store.path(provisionFile)
		if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(record), 0o600)); err != nil {
			t.Fatal(err)
		}
		p, err := store.LoadProvision()
		switch {
		case word == "":
			if err != nil || p == nil {
				t.Errorf("%s: %v", record, err)
			}
		case !IsRefusal(err) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), path):
			t.Errorf("%s: %v, want %q", record, err, word)
		}
	}
}
