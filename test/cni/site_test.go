// Package cni tests podnic as a CNI plugin: the built program, called by libcni behind real plugins, in pods that are made
// for it.
package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// object is what a configuration is made of.
type object = map[string]any

// mains are configurations of the plugins that make the interface, and whose part podnic must leave to them.
var mains = map[string]object{
	"ptp":    {"type": "ptp"},
	"bridge": {"type": "bridge", "bridge": "cni0", "isGateway": true},
}

// site is a node, a pod that no plugin has seen yet, and a runtime.
type site struct {
	t     *testing.T
	node  *pod.Node
	pod   *pod.Namespace
	cni   *libcni.CNIConfig
	path  []string // of plugins
	state string   // podnic's
	ipam  string   // host-local's
	log   string   // podnic's
}

func newSite(t *testing.T) *site {
	t.Helper()
	podtest.NeedRoot(t)
	t.Parallel()
	plugins, err := cache.Need("make cni", "cni")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &site{
		t: t, node: podtest.Node(t), path: []string{plugins, filepath.Dir(podtest.Program(t))},
		state: filepath.Join(dir, "state"), ipam: filepath.Join(dir, "ipam"), log: filepath.Join(dir, "log"),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("podnic's log:\n%s", s.logged())
		}
	})
	s.cni = libcni.NewCNIConfigWithCacheDir(s.path, filepath.Join(dir, "cache"), nil)
	s.pod = s.addPod("pod")
	return s
}

// hideForward has the plugin take the kernel for one whose nftables cannot forward.
func (s *site) hideForward() {
	s.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\n%s exec %s \"$@\"\n", podtest.WithoutForward, podtest.Program(s.t))
	dir := s.t.TempDir()
	podtest.Executable(s.t, filepath.Join(dir, "podnic"), []byte(script))
	s.path = append([]string{dir}, s.path...)
	s.cni = libcni.NewCNIConfigWithCacheDir(s.path, filepath.Join(dir, "cache"), nil)
}

func (s *site) addPod(name string) *pod.Namespace {
	s.t.Helper()
	n, err := s.node.AddNamespace(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// network is a configuration of the plugins, with what is the test's own put into it.
func (s *site) network(version string, plugins ...object) *libcni.NetworkConfigList {
	s.t.Helper()
	list := object{"cniVersion": version, "name": "podnic", "disableCheck": true, "plugins": plugins}
	b, err := json.Marshal(list)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.parse(b)
}

// parse reads a configuration as a runtime does, and has it leave its traces in the test's directories.
func (s *site) parse(conflist []byte) *libcni.NetworkConfigList {
	s.t.Helper()
	var list object
	if err := json.Unmarshal(conflist, &list); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range list["plugins"].([]any) {
		switch p := p.(object); p["type"] {
		case "podnic":
			if p["stateDir"] == nil {
				p["stateDir"] = s.state
			}
			p["logFile"] = s.log
		default:
			if p["ipam"] == nil {
				p["ipam"] = object{
					"type": "host-local", "ranges": []any{[]any{object{"subnet": "10.244.1.0/24"}}},
					"routes": []any{object{"dst": "0.0.0.0/0"}},
				}
			}
			p["ipam"].(object)["dataDir"] = s.ipam
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		s.t.Fatal(err)
	}
	parsed, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		s.t.Fatal(err)
	}
	return parsed
}

// podnic is a configuration of the plugin.
func podnic(keys object) object {
	plugin := object{"type": "podnic", "binding": "bridge", "owner": 107}
	for key, value := range keys {
		plugin[key] = value
	}
	return plugin
}

func runtime(n *pod.Namespace) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: n.Name, NetNS: n.Path, IfName: pod.Interface}
}

// add has libcni run the whole chain, in the node's namespace, as a runtime does.
func (s *site) add(list *libcni.NetworkConfigList, n *pod.Namespace) (types.Result, error) {
	var result types.Result
	err := s.node.Do(func() (err error) {
		result, err = s.cni.AddNetworkList(context.Background(), list, runtime(n))
		return err
	})
	return result, err
}

func (s *site) mustAdd(list *libcni.NetworkConfigList, n *pod.Namespace) types.Result {
	s.t.Helper()
	result, err := s.add(list, n)
	if err != nil {
		s.t.Fatalf("ADD: %v", err)
	}
	return result
}

func (s *site) mustDel(list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) {
	s.t.Helper()
	err := s.node.Do(func() error { return s.cni.DelNetworkList(context.Background(), list, rt) })
	if err != nil {
		s.t.Fatalf("DEL: %v", err)
	}
}

// call has one plugin of a configuration do something, as libcni would; prev is the result before it.
type call struct {
	command string
	list    *libcni.NetworkConfigList
	rt      *libcni.RuntimeConf
	prev    types.Result
	keys    object // put into the configuration
}

// podnic calls the last plugin of the list.
func (s *site) podnic(c call) (types.Result, error) {
	s.t.Helper()
	path, config, args := s.prepare(c)
	var result types.Result
	err := s.node.Do(func() (err error) {
		if c.command == "ADD" {
			result, err = invoke.ExecPluginWithResult(context.Background(), path, config, args, nil)
			return err
		}
		return invoke.ExecPluginWithoutResult(context.Background(), path, config, args, nil)
	})
	return result, err
}

// command is the program that such a call runs.
func (s *site) command(c call) *exec.Cmd {
	s.t.Helper()
	path, config, args := s.prepare(c)
	cmd := exec.Command(path)
	cmd.Env, cmd.Stdin = args.AsEnv(), bytes.NewReader(config)
	return cmd
}

func (s *site) prepare(c call) (path string, config []byte, args *invoke.Args) {
	s.t.Helper()
	plugin := c.list.Plugins[len(c.list.Plugins)-1]
	inject := object{"name": c.list.Name, "cniVersion": c.list.CNIVersion}
	if c.prev != nil {
		inject["prevResult"] = c.prev
	}
	maps.Copy(inject, c.keys)
	injected, err := libcni.InjectConf(plugin, inject)
	if err != nil {
		s.t.Fatal(err)
	}
	if c.rt == nil {
		c.rt = runtime(s.pod)
	}
	if path, err = invoke.FindInPath("podnic", s.path); err != nil {
		s.t.Fatal(err)
	}
	return path, injected.Bytes, &invoke.Args{
		Command: c.command, ContainerID: c.rt.ContainerID, NetNS: c.rt.NetNS, IfName: c.rt.IfName, Path: strings.Join(s.path, ":"),
	}
}

func (s *site) mustPodnic(c call) types.Result {
	s.t.Helper()
	result, err := s.podnic(c)
	if err != nil {
		s.t.Fatalf("podnic's %s: %v", c.command, err)
	}
	return result
}

// fails checks the code and the words of an error.
func (s *site) fails(err error, code uint, words ...string) {
	s.t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code {
		s.t.Errorf("error %#v, want code %d", err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(e.Error(), word) {
			s.t.Errorf("%q is not in: %s", word, e.Error())
		}
	}
}

// settings are those of the kernel that the plugin changes and that podtest.State does not tell.
func (s *site) settings(n *pod.Namespace) string {
	s.t.Helper()
	out, err := n.Output(s.t.Context(), "sysctl", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.conf.all.accept_local",
		"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// view is all that there is in the namespace.
type view struct {
	state    pod.State
	settings string
}

func (s *site) view(n *pod.Namespace) view {
	s.t.Helper()
	return view{podtest.State(s.t, n), s.settings(n)}
}

// same compares the namespace with what it was.
func (s *site) same(before view, n *pod.Namespace) {
	s.t.Helper()
	after := s.view(n)
	if diff := before.state.Diff(after.state); diff != "" {
		s.t.Errorf("not as before:\n%s", diff)
	}
	if before.settings != after.settings {
		s.t.Errorf("the settings are not as before:\n%swas\n%s", after.settings, before.settings)
	}
}

// volatile is what follows the carrier of a tap in its own time, and timers.
var volatile = regexp.MustCompile(`NO-CARRIER,|,LOWER_UP| state \S+| linkdown|_timer +[\d.]+`)

// wired is the wiring in words, once it has settled. (Some versions of nft, which podtest.State asks, cannot list the filter.)
func (s *site) wired(n *pod.Namespace) string {
	s.t.Helper()
	if err := n.Settle(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return volatile.ReplaceAllString(podtest.In(s.t, n, "ip -d -o link; ip -o address; ip route show table all"), "") + s.settings(n)
}

// logged is podnic's log.
func (s *site) logged() string {
	b, err := os.ReadFile(s.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Error(err)
	}
	return string(b)
}

// nothingKept checks that the node keeps nothing of any attachment.
func (s *site) nothingKept() {
	s.t.Helper()
	if left, err := os.ReadDir(s.state); err != nil || len(left) > 0 {
		s.t.Errorf("left in the state directory: %v, %v", left, err)
	}
	leases, err := filepath.Glob(filepath.Join(s.ipam, "*", "10.*"))
	if err != nil || len(leases) > 0 {
		s.t.Errorf("left of host-local: %v, %v", leases, err)
	}
}

// status is what the program says in the pod.
func (s *site) status(n *pod.Namespace) (phase string, text string) {
	s.t.Helper()
	out, err := n.Output(s.t.Context(), podtest.Program(s.t), "status", "-o", "json", "--state-dir", "/nowhere")
	if err != nil {
		s.t.Fatal(err)
	}
	return podtest.ReadReport(s.t, out).Phase, out
}

// current is a result in the newest version.
func (s *site) current(r types.Result) *types100.Result {
	s.t.Helper()
	result, err := types100.NewResultFromResult(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}
