package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/utils"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
)

// attachmentVersion is raised when an older podnic would misread the file.
const attachmentVersion = 1

// attachment is one interface of one container, as ADD wrote it down. It lies beside the records of the wiring, in
// a directory that is named after both.
type attachment struct {
	Version     int                 `json:"version"`
	Network     string              `json:"network"`
	ContainerID string              `json:"containerID"`
	IfName      string              `json:"ifname"`
	Netns       string              `json:"netns"`
	Namespace   network.NamespaceID `json:"namespace"`
	Binding     string              `json:"binding"`
	Interface   string              `json:"interface"` // the pod's, which need not be IfName
}

// attachments is the directory of them all.
type attachments struct{ dir string }

// name is that of an attachment's directory. A container's id has no @ (CNI specification, parameters), so that no two are
// the same.
func name(containerID, ifName string) string { return containerID + "@" + ifName }

// path is an attachment's directory, which for package network is a state directory.
func (s attachments) path(containerID, ifName string) string {
	return filepath.Join(s.dir, name(containerID, ifName))
}

const attachmentFile = "attachment.json"

// load reads an attachment; nil when there is none.
func (s attachments) load(containerID, ifName string) (*attachment, error) {
	path := filepath.Join(s.path(containerID, ifName), attachmentFile)
	d, err := statedir.Open(s.dir, name(containerID, ifName))
	var b []byte
	if err == nil {
		defer d.Close()
		b, err = d.Read(attachmentFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := new(attachment)
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("the attachment %s is damaged: %w", path, err)
	}
	if a.Version > attachmentVersion {
		return nil, fmt.Errorf("the attachment %s was written by a newer podnic (version %d, this one reads up to %d)", path, a.Version, attachmentVersion)
	}
	if err := a.check(containerID, ifName); err != nil {
		return nil, fmt.Errorf("the attachment %s is damaged: %w", path, err)
	}
	return a, nil
}

// check is what an attachment has to pass, since what it names is opened, changed and removed. It is of the directory that
// it lies in.
func (a *attachment) check(containerID, ifName string) error {
	switch {
	case a.Version < 1:
		return errors.New("it has no version")
	case a.ContainerID != containerID || a.IfName != ifName:
		return fmt.Errorf("it belongs to %q of the container %q", a.IfName, a.ContainerID)
	case a.Namespace.Boot == "" || a.Namespace.Cookie == 0:
		return errors.New("it names no namespace")
	case !knownBinding(a.Binding):
		return fmt.Errorf("no binding is called %q", a.Binding)
	case a.Netns != "" && !filepath.IsAbs(a.Netns):
		return fmt.Errorf("%q is not the path of a namespace", a.Netns)
	}
	if err := utils.ValidateInterfaceName(a.Interface); err != nil {
		return fmt.Errorf("%q cannot be the name of a link", a.Interface)
	}
	return nil
}

// wired reports whether podnic makes the attachment's wiring itself.
func (a *attachment) wired() bool { return a.Binding != BindingManagedTap }

func (s attachments) save(a *attachment) error {
	b, err := json.MarshalIndent(a, "", "  ")
	var d *statedir.Dir
	if err == nil {
		d, err = statedir.Make(s.dir, name(a.ContainerID, a.IfName))
	}
	if err == nil {
		defer d.Close()
		err = d.Write(attachmentFile, append(b, '\n'), 0o600, true)
	}
	if err != nil {
		return fmt.Errorf("write the attachment: %w", err)
	}
	return nil
}

// remove forgets an attachment, known or not. The records are gone by then, or useless.
func (s attachments) remove(containerID, ifName string) error {
	if err := os.RemoveAll(s.path(containerID, ifName)); err != nil {
		return fmt.Errorf("remove the attachment: %w", err)
	}
	return nil
}

// all lists the attachments. One that cannot be read is left out, and its error is among those returned.
func (s attachments) all() (list []*attachment, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		containerID, ifName, ok := strings.Cut(e.Name(), "@")
		if !ok {
			continue
		}
		a, loadErr := s.load(containerID, ifName)
		if loadErr != nil {
			err = errors.Join(err, loadErr)
		} else if a != nil {
			list = append(list, a)
		}
	}
	return list, err
}

// others are what was provided for the other attachments of a container's namespace.
func (s attachments) others(of *attachment) []*network.Provision {
	all, _ := s.all() // one that cannot be read cannot be honoured
	var list []*network.Provision
	for _, a := range all {
		if a.Namespace != of.Namespace || a.ContainerID == of.ContainerID && a.IfName == of.IfName {
			continue
		}
		if p, err := (network.Store{Dir: s.path(a.ContainerID, a.IfName), Interface: a.Interface}).LoadProvision(); err == nil && p != nil {
			list = append(list, p)
		}
	}
	return list
}
