package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Where the node's CNI directories are in the pod, and what the suite adds to them: the node's network configuration with
// one more plugin in its chain, in a file that comes first, and this program as that plugin.
const (
	nodeConf    = "/node/cni/conf"
	nodeBin     = "/node/cni/bin"
	chainFile   = "00-podnic-e2e.conflist"
	pluginName  = "podnic-e2e"
	podnicName  = pluginName + ".podnic"
	imagePodnic = "/bin/podnic"
)

// chain appends podnic to the node's network for pods of one namespace. confDir is what the node calls its directory.
func chain(namespace, confDir string) error {
	list, err := nodeNetwork()
	if err != nil {
		return err
	}
	plugins, _ := list["plugins"].([]any)
	list["plugins"] = append(plugins, map[string]any{
		"type": pluginName, "binding": "bridge", "owner": 107, "stateDir": filepath.Join(confDir, pluginName),
		"args": map[string]any{pluginName: namespace},
	})
	list["disableCheck"] = true // docs/cni.md
	for name, from := range map[string]string{pluginName: "/proc/self/exe", podnicName: imagePodnic} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = replace(filepath.Join(nodeBin, name), data, 0o755)
		}
		if err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(nodeConf, chainFile), data, 0o644)
}

// nodeNetwork is the configuration that the node uses: of all files that can be one, the first.
func nodeNetwork() (map[string]any, error) {
	entries, err := os.ReadDir(nodeConf)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		extension := filepath.Ext(e.Name())
		if e.Name() == chainFile || !slices.Contains([]string{".conf", ".conflist", ".json"}, extension) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(nodeConf, e.Name()))
		if err != nil {
			return nil, err
		}
		var network map[string]any
		if err := json.Unmarshal(text, &network); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if _, isList := network["plugins"]; !isList {
			network = map[string]any{"cniVersion": network["cniVersion"], "name": network["name"], "plugins": []any{network}}
		}
		return network, nil
	}
	return nil, errors.New("the node's CNI directory has no network configuration: name it with CNI_CONF_DIR")
}

// replace puts a file in the place of one that may be in use.
func replace(path string, data []byte, mode os.FileMode) error {
	next := path + ".new"
	err := os.WriteFile(next, data, mode)
	if err == nil {
		err = os.Rename(next, path)
	}
	return err
}

// unchain removes all that chain made, and podnic by it.
func unchain() error {
	return errors.Join(
		os.RemoveAll(filepath.Join(nodeConf, chainFile)), os.RemoveAll(filepath.Join(nodeConf, pluginName)),
		os.RemoveAll(filepath.Join(nodeBin, pluginName)), os.RemoveAll(filepath.Join(nodeBin, podnicName)),
	)
}

// beThePlugin answers a runtime in podnic's place for pods of other namespaces: they keep what they have. All else is
// podnic's to answer.
func beThePlugin() error {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var config struct {
		Args       map[string]string `json:"args"`
		PrevResult json.RawMessage   `json:"prevResult"`
	}
	if err := json.Unmarshal(stdin, &config); err != nil {
		return err
	}
	// https://github.com/containernetworking/cni/blob/main/SPEC.md has CNI_ARGS; the names in it are the kubelet's.
	pod := strings.Split(os.Getenv("CNI_ARGS"), ";")
	command := os.Getenv("CNI_COMMAND")
	aboutPod := slices.Contains([]string{"ADD", "DEL", "CHECK"}, command)
	if aboutPod && !slices.Contains(pod, "K8S_POD_NAMESPACE="+config.Args[pluginName]) {
		if command == "ADD" {
			_, err = os.Stdout.Write(config.PrevResult)
		}
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	podnic := exec.Command(filepath.Join(filepath.Dir(self), podnicName))
	podnic.Stdin, podnic.Stdout, podnic.Stderr = strings.NewReader(string(stdin)), os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := podnic.Run(); errors.As(err, &exit) {
		os.Exit(exit.ExitCode()) // it has said why
	} else if err != nil {
		return err
	}
	return nil
}
