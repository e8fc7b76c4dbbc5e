package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/draw"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/probe"
	"github.com/podnic/podnic/network/statedir"
)

// readme stands first in a bundle.
const readme = `What podnic and the machine say about a pod, for a bug report. Made by 'podnic doctor bundle'.

version.txt      podnic, kernel, and when this was made
doctor.txt       what podnic doctor found; doctor.json is the same
status.txt       what podnic status drew; status.json is the same
interfaces/      of each interface that is looked at, in a directory of its name:
  record.json    what it held before, and the options of prepare
  state.json     what the process that serves it last said of itself
network.json     all links, addresses, routes, rules, lasting neighbours and hooked nftables chains of the namespace
settings.txt     the kernel's settings that matter here
environment.txt  which PODNIC_ variables are set
domain.xml       the running domain, if libvirt told; another one is domain-2.xml
logs/            the end of each *.log in .podnic of the state directory
unseen.txt       what could not be had, and why

Left out: all values of the domain's XML but those that say how the guest is connected (so no passwords, no secrets, nothing
that cloud-init was given), the values of PODNIC_ variables, the values of DHCP options that were given by hand, and in
every file what stands behind a word such as password, secret or token.

It does hold names, addresses and MACs of the pod and of its network. Read it before you pass it on.
`

// settings are paths below /proc/sys.
var settings = []string{
	"kernel/osrelease", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables", "net/bridge/bridge-nf-call-arptables",
	"net/ipv4/ip_unprivileged_port_start", "net/ipv4/ip_forward", "net/ipv4/conf/all/accept_local", "net/ipv4/conf/all/arp_ignore",
	"net/ipv4/conf/all/rp_filter", "net/ipv6/conf/all/disable_ipv6",
}

// Bundle writes all that a bug report needs into an archive; to stdout if the path is -. Nothing secret is in it. What
// cannot be had is told in it. It returns how many files there are.
func Bundle(name string, stdout io.Writer, o Examination, version string) (files int, err error) {
	v, err := begin(o)
	if err != nil {
		return 0, err
	}
	defer v.close()
	b := &bundle{visit: v, at: time.Now()}
	if name == "-" {
		b.collect(version)
		err = b.write(stdout)
	} else {
		f, refused := create(name)
		if refused != nil {
			return 0, refused
		}
		b.collect(version)
		if err = errors.Join(b.write(f), f.Close()); err != nil {
			err = errors.Join(err, os.Remove(name)) // half an archive helps nobody
		}
	}
	if err != nil {
		return 0, fmt.Errorf("write the bundle: %w", err)
	}
	return len(b.files), nil
}

// create makes the file, before all that takes time.
func create(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, plan.Refuse("%s already exists: name another file", file)
	case err != nil:
		return nil, plan.Refuse("the bundle cannot be written (%w): name another file, or - for standard output", err)
	}
	return f, nil
}

type bundle struct {
	*visit
	at     time.Time
	files  []file
	missed []string
}

type file struct {
	name string
	text []byte
}

func (b *bundle) add(name string, text []byte) { b.files = append(b.files, file{name, text}) }

func (b *bundle) miss(name string, err error) {
	b.missed = append(b.missed, fmt.Sprintf("%s: %v", name, err))
}

func (b *bundle) addJSON(name string, value any) {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		b.miss(name, err)
		return
	}
	b.add(name, append(text, '\n'))
}

func (b *bundle) collect(version string) {
	b.add("README.txt", []byte(readme))
	b.add("version.txt", fmt.Appendf(nil, "%s\nLinux %s\n%s\n", version, release(), b.at.UTC().Format(time.RFC3339)))
	b.findings()
	b.status()
	b.states()
	if inventory, err := b.ns.Inventory(); err != nil {
		b.miss("network.json", err)
	} else {
		b.addJSON("network.json", inventory)
	}
	b.settings()
	b.environment()
	b.domains()
	b.logs()
	if len(b.missed) > 0 {
		b.add("unseen.txt", []byte(strings.Join(b.missed, "\n")+"\n"))
	}
}

// findings are of all checks, whatever the command line leaves out.
func (b *bundle) findings() {
	b.Only = nil
	report := b.examine()
	var text bytes.Buffer
	_ = report.Text(&text) // to memory
	b.add("doctor.txt", text.Bytes())
	b.addJSON("doctor.json", report)
}

func (b *bundle) status() {
	if b.seen == nil {
		err := b.unseen
		if b.initial {
			err = errors.New("this is the machine's own network namespace")
		}
		b.miss("status.txt", err)
		return
	}
	view := status.View{Report: b.report, At: b.at}
	for _, l := range b.all {
		view.Seen = append(view.Seen, l.seen)
	}
	var text bytes.Buffer
	_ = draw.Text(&text, view, false) // to memory
	b.add("status.txt", text.Bytes())
	b.addJSON("status.json", b.report)
}

func (b *bundle) settings() {
	var text strings.Builder
	for _, setting := range settings {
		value, err := probe.Sysctl(b.ns, setting)
		if err != nil {
			value = fmt.Sprintf("(%v)", err)
		}
		fmt.Fprintf(&text, "%s = %s\n", strings.ReplaceAll(setting, "/", "."), value)
	}
	b.add("settings.txt", []byte(text.String()))
}

// environment lists names alone: a value may be a secret.
func (b *bundle) environment() {
	var names []string
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PODNIC_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	b.add("environment.txt", []byte(strings.Join(append(names, ""), "\n")))
}

// most is how much of a file is taken: its end, which is the news.
const most = 1 << 20

// domains are those that were given an interface.
func (b *bundle) domains() {
	var names []string
	for _, l := range b.all {
		b.inspected = l
		document := b.document()
		if document == nil || slices.Contains(names, document.Name()) {
			continue
		}
		name := "domain.xml"
		if names = append(names, document.Name()); len(names) > 1 {
			name = fmt.Sprintf("domain-%d.xml", len(names))
		}
		b.add(name, document.Redacted())
	}
	if len(names) == 0 {
		b.miss("domain.xml", errors.New("no record names a domain, or libvirt does not tell: see doctor.txt"))
	}
}

// states takes what is known of each interface. What podnic would not believe, since others could have put it there, does
// not go into a bundle either: it may be a link to a private file.
func (b *bundle) states() {
	if len(b.all)+len(b.lost) == 0 {
		b.miss("record.json and state.json", errors.New("the pod's interface is not known"))
	}
	for _, l := range b.all {
		b.recorded(l.seen)
	}
	if len(b.lost) == 0 {
		return
	}
	id, err := b.ns.ID()
	for _, l := range b.lost {
		switch {
		case err != nil:
			b.miss(path.Join("interfaces", l.Names.Interface), err)
			continue
		case l.Names.Interface == "": // nothing tells its name
			b.miss("record.json and state.json", l.Reason)
			continue
		}
		b.recorded(&network.Inspection{ID: id, Names: l.Names})
	}
}

func (b *bundle) recorded(seen *network.Inspection) {
	const file = "record.json"
	record, state := path.Join("interfaces", seen.Names.Interface, file), path.Join("interfaces", seen.Names.Interface, "state.json")
	d, err := statedir.Open(b.StateDir, seen.Names.Interface)
	if err == nil {
		err = b.copy(record, d, file)
		d.Close()
	}
	// Where an older podnic has it.
	if d, _ = statedir.OpenTop(b.StateDir); d != nil {
		if errors.Is(err, fs.ErrNotExist) && (len(b.all)+len(b.lost) == 1 || seen.Record != nil) && b.copy(record, d, file) == nil {
			err = nil
		}
		d.Close()
	}
	if err != nil {
		b.miss(record, err)
	}
	known, err := status.Known(b.Request, seen)
	switch {
	case err != nil:
		b.miss(state, err)
	case known == nil:
		b.miss(state, errors.New("nobody has served"))
	default:
		b.addJSON(state, known)
	}
}

func (b *bundle) logs() {
	d, err := statedir.Open(b.StateDir, statedir.Own)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var names []string
	if err == nil {
		defer d.Close()
		names, err = d.Names()
	}
	if err != nil {
		b.miss("logs", err)
		return
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			if err := b.copy("logs/"+name, d, name); err != nil {
				b.miss("logs/"+name, err)
			}
		}
	}
}

func (b *bundle) copy(name string, d *statedir.Dir, file string) error {
	text, err := d.Tail(file, most)
	if err == nil {
		b.add(name, text)
	}
	return err
}

// write makes the archive. Every file goes through the scrubber, whatever made it.
func (b *bundle) write(w io.Writer) error {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	for _, f := range b.files {
		text := f.text
		if f.name != "README.txt" {
			text = scrub(text)
		}
		header := &tar.Header{Name: "podnic-bundle/" + f.name, Mode: 0o600, Size: int64(len(text)), ModTime: b.at}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(text); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}
