package run

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// A situation is one in which podnic prints what to do.
type situation struct {
	name    string
	prepare []string // how the pod is wired, with these arguments; nil: not at all
	broken  string   // a script in the pod, in which STATE is the state directory
	serve   bool     // something serves when it is broken
	say     []string // podnic with these arguments says it
	words   string   // of the message
}

// situations are those that can be had without KubeVirt, a node, or a libvirtd.
var situations = []situation{
	{name: "the bridge is gone", prepare: []string{}, broken: "ip link delete eth0-br", say: []string{"status"}, words: "run `podnic prepare` to mend it"},
	{name: "the bridge of a UDP server is gone", prepare: []string{"--socket", "udp"}, broken: "ip link delete eth0-br", say: []string{"status"}, words: "run `podnic prepare` to mend it"},
	{
		name: "a wiring with options", prepare: []string{"--socket", "udp", "--tap", "vm0", "--tap-owner", "107", "--tap-group", "108", "--queues", "2"},
		broken: "ip link set vm0 mtu 900", say: []string{"status"}, words: "run `podnic prepare` to mend it",
	},
	{
		name: "a wiring with options that has lost its record", prepare: []string{"--socket", "udp", "--tap", "vm0", "--tap-owner", "107", "--queues", "2"},
		broken: "ip link set vm0 mtu 900; rm $STATE/eth0/record.json", say: []string{"status"}, words: "run `podnic prepare` to mend it",
	},
	{name: "doctor of a broken wiring", prepare: []string{"--socket", "udp"}, broken: "ip link set tap0 down", say: []string{"doctor", "--only", "wiring"}, words: "run `podnic prepare` to mend it"},
	{name: "doctor of an MTU", prepare: []string{"--socket", "udp"}, broken: "ip link set tap0 mtu 900", say: []string{"doctor", "--only", "mtu"}, words: "(`podnic prepare` does)"},
	{name: "nobody serves any more", prepare: []string{}, serve: true, broken: ":", say: []string{"status"}, words: "run `podnic run` or `podnic serve`, or take"},
	{name: "trace of nothing", broken: ":", say: []string{"trace", "--for", "1ms"}, words: "nothing to trace"},
	{name: "trace without a tap", prepare: []string{"--socket", "udp"}, broken: "ip link delete tap0", say: []string{"trace", "--for", "1ms"}, words: "run `podnic prepare` to mend the wiring"},
	{name: "serve of nothing", broken: ":", say: []string{"serve"}, words: "run `podnic prepare` first"},
	{name: "other options", prepare: []string{"--socket", "udp"}, broken: ":", say: []string{"prepare", "--socket", "packet"}, words: "with other options"},
	{name: "another tap, and no record", prepare: []string{}, broken: "rm $STATE/eth0/record.json", say: []string{"prepare", "--tap", "vm0"}, words: "wired already, with the tap"},
	{name: "another binding, and no record", prepare: []string{}, broken: "rm $STATE/eth0/record.json", say: []string{"prepare", "--binding", "redirect"}, words: "wired already, with the binding"},
	{name: "status of a pod network that is gone", prepare: []string{}, broken: "ip link delete eth0-nic", say: []string{"status"}, words: "is gone: the pod's network"},
	{name: "prepare of a pod network that is gone", prepare: []string{}, broken: "ip link delete eth0-nic", say: []string{"prepare"}, words: "is gone (link"},
	{name: "the same without a record", prepare: []string{}, broken: "ip link delete eth0-nic; rm $STATE/eth0/record.json", say: []string{"prepare"}, words: "is gone (link"},
}

// elsewhere are messages with a command that no situation above prints, and what runs it.
var elsewhere = map[string]string{
	"serves the interface: end it first": "no remedy but to end that one",
	"nobody else can wire it":            "the CNI plugin; restore is as above",
	"is wired by KubeVirt":               "test/kubevirt runs both",
	"the record is kept":                 "TestEndWithoutLibvirt",
	"run `podnic run` again to take":     "TestGuestOfALostStartKeepsItsNetwork; TestKilledAgentIsAdopted runs it again",
	"which only `podnic hook` needs":     "no remedy",
	"`podnic trace` shows":               "no remedy; test/serve traces such requests",
	"`podnic hook install`":              "cmd/agent/hookdir's tests and test/hook",
	"run `podnic hook uninstall` first":  "cmd/agent/hookdir's tests and test/hook",
	"is not a link that":                 "no remedy",
	"is for `podnic run` alone":          "no remedy; cmd/doctor's TestHook",
	"says of leases is not in":           "TestDoctorOfAWiredPod in test/look",
	"see what `podnic status` warns of":  "test/hook; status is as above",
	"was not released":                   "test/hook; restore is as above",
	"in its metadata, or run":            "test/hook; restore is as above",
	"podnic-sidecar is started by":       "test/kubevirt",
	"cannot be taken over":               "test/command; serve is as above",
	"the command has ended, and":         "TestGuestInTheBackgroundKeepsItsNetwork runs restore",
	"nobody answered for it when":        "TestRouterIsFoundLater",
	"its reason is among the warnings":   "run and serve are as above",
	"run `podnic serve` or `podnic run`": "a line of podnic trace; both are as above",
	"the guest runs without %s: add it":  "TestGuestHasAllInterfacesOfThePod",
	"plug it with `podnic attach":        "TestGuestHasAllInterfacesOfThePod",
	"and the guest may have the card":    "a libvirt that is lost at that moment; TestGuestHasAllInterfacesOfThePod runs detach",
	"the guest has given up its":         "somebody takes the tap at that moment; restore is as above",
}

var command = regexp.MustCompile("`(podnic [^`]+)`")

// TestRemediesWorkAsPrinted has podnic say what to do, does that to the letter, and looks whether podnic still says it. Every
// message of the sources that names a command of podnic's has its situation, or a reason why not.
func TestRemediesWorkAsPrinted(t *testing.T) {
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			for n := 0; ; n++ {
				p := newPatient(t, node, s)
				said := p.say(s.say...)
				if !strings.Contains(said, s.words) {
					t.Fatalf("podnic %v does not say %q but\n%s", s.say, s.words, said)
				}
				commands := p.remedies(said, s.words)
				if n == len(commands) {
					return
				}
				t.Log(commands[n])
				p.obey(commands[n])
				if commands[n] == "podnic serve" {
					continue // it has ended again, and that is what podnic says
				}
				if again := p.say(s.say...); strings.Contains(again, s.words) {
					t.Errorf("after %q, podnic %v says again\n%s", commands[n], s.say, again)
				}
			}
		})
	}
	for _, literal := range messages(t) {
		known := false
		for words := range elsewhere {
			known = known || strings.Contains(literal, words)
		}
		for _, s := range situations {
			known = known || strings.Contains(literal, s.words)
		}
		if !known {
			t.Errorf("no situation prints %q", literal)
		}
	}
}

// patient is a pod in a situation.
type patient struct {
	t     *testing.T
	pod   *pod.Pod
	state string
	env   []string
}

func newPatient(t *testing.T, node *pod.Node, s situation) *patient {
	t.Helper()
	dir := t.TempDir()
	p := &patient{t: t, state: filepath.Join(dir, "state")}
	p.pod = podtest.Pod(t, node, pod.Spec{Name: "p" + strconv.FormatInt(time.Now().UnixNano(), 36), Hostname: "vm-0", Network: pod.PTP})
	domain := filepath.Join(dir, "domain.xml")
	const xml = `<domain type='test'><name>vm</name><memory>1024</memory><os><type>hvm</type></os></domain>`
	if err := os.WriteFile(domain, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	// What the operator's container sets for all of podnic's commands.
	p.env = append(os.Environ(), "STATE="+p.state, "PODNIC_STATE_DIR="+p.state, "PODNIC_CONNECT=test:///default", "PODNIC_DOMAIN="+domain)
	if s.prepare != nil {
		if out, err := p.command(podtest.Program(t), append([]string{"prepare"}, s.prepare...)...).CombinedOutput(); err != nil {
			t.Fatalf("prepare: %v: %s", err, out)
		}
	}
	if s.serve {
		p.obey("podnic serve")
	}
	if out, err := p.command("sh", "-ec", s.broken).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", s.broken, err, out)
	}
	return p
}

func (p *patient) command(name string, args ...string) *exec.Cmd {
	cmd := p.pod.Command(context.Background(), name, args...)
	cmd.Env = p.env
	return cmd
}

// say is what podnic prints, with white space as single blanks, since drawings break their lines.
func (p *patient) say(args ...string) string {
	p.t.Helper()
	said := podtest.Start(p.t, "podnic", p.command(podtest.Program(p.t), args...))
	p.finish(said)
	return strings.Join(strings.Fields(said.Output()), " ")
}

// remedies are the commands in the sentence that the words are of.
func (p *patient) remedies(said, words string) []string {
	p.t.Helper()
	var commands []string
	at := strings.Index(said, words)
	line := said[:strings.Index(said[at:]+" ✗", " ✗")+at]
	if start := strings.LastIndex(line, "✗"); start >= 0 {
		line = line[start:]
	}
	for _, found := range command.FindAllStringSubmatch(line, -1) {
		commands = append(commands, found[1])
	}
	if len(commands) == 0 {
		p.t.Fatalf("no command is in %q", line)
	}
	return commands
}

// obey runs a command of podnic's as it stands. One that goes on until it is told to end is told so, once it works.
func (p *patient) obey(line string) {
	p.t.Helper()
	args := strings.Fields(line)
	said := podtest.Start(p.t, line, p.command(podtest.Program(p.t), args[1:]...))
	if status := p.finish(said); status != 0 {
		p.t.Errorf("%s: exit status %d: %s", line, status, said.Output())
	}
}

// finish waits for a command's end, which it asks for once the command serves or runs a guest.
func (p *patient) finish(said *podtest.Process) int {
	p.t.Helper()
	working := `"msg":"serving"`
	if strings.Contains(strings.Join(said.Cmd.Args, " "), "podnic run") {
		working = `"msg":"guest started"`
	}
	if said.SaysOrEnds(working) {
		return said.End(syscall.SIGTERM)
	}
	return said.Wait()
}

// messages are the texts of podnic's sources that name a command of podnic's.
func messages(t *testing.T) (found []string) {
	t.Helper()
	for _, dir := range []string{"cmd", "network", "dhcp", "domain"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && strings.HasPrefix(l.Value, `"`) && command.MatchString(l.Value) {
					text, failed := strconv.Unquote(l.Value)
					err = errors.Join(err, failed)
					found = append(found, text)
				}
				return true
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 20 {
		t.Fatalf("only %d messages were found", len(found))
	}
	return found
}
