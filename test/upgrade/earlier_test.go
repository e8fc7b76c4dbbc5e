//go:build earlier

package upgrade

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

var update = flag.Bool("update", false, "write testdata")

func init() {
	earliers["the program itself"] = earlier{pod.Plain, (*site).wireByProgram, (*site).serveByProgram}
}

// program is the earlier one, which `make earlier` builds.
func (s *site) program() string {
	s.T.Helper()
	path := os.Getenv("PODNIC_EARLIER")
	if path == "" {
		s.T.Fatal("PODNIC_EARLIER has to name the earlier program: make earlier")
	}
	return path
}

func (s *site) command(args ...string) *exec.Cmd {
	s.T.Helper()
	return s.Pod.Command(context.Background(), s.program(), append(args, "--state-dir", s.StateDir)...)
}

func (s *site) wireByProgram() {
	s.T.Helper()
	podtest.Must(s.T, s.command("prepare"))
}

func (s *site) serveByProgram() (renew func()) {
	s.T.Helper()
	server := podtest.Start(s.T, "the earlier podnic", s.command("serve", "--log-format", "json"))
	server.Says(`"msg":"serving"`)
	client := s.client()
	server.End(syscall.SIGTERM)
	return func() {
		s.T.Helper()
		client.Signal(syscall.SIGUSR1)
		client.Says("client: renew " + s.Pod.Address.Addr().String())
	}
}

// TestRecordingIsWhatTheProgramDoes: its requests byte for byte but for the MACs that it draws by lots, and its files but for
// times and ids.
func TestRecordingIsWhatTheProgramDoes(t *testing.T) {
	for _, name := range []string{"recorded", "recorded, with another link"} {
		t.Run(name, func(t *testing.T) {
			compareWithRecording(t, newSite(t, earliers[name].network), *update && name == "recorded")
		})
	}
}

func compareWithRecording(t *testing.T, s *site, write bool) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	traced := s.Pod.Command(t.Context(), "strace", append([]string{"-f", "-qq", "-s0", "-e", "trace=socket,sendto,ioctl", "-e", "write=all", "-o", trace, s.program()},
		"prepare", "--state-dir", s.StateDir)...)
	podtest.Must(t, traced)
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	wired := "# What podnic prepare asked of the kernel, as recording_test.go says; written by `make earlier UPDATE=1`.\n" + recorded(t, string(text), s.index)
	record := indexed(s.read("record.json"), recordedIndex)
	s.Plug(s.card)
	s.serveByProgram()
	state := s.read("state.json")
	tidy := func(text string) string {
		for _, pattern := range []string{`"boot": "[^"]*"`, `"cookie": \d+`, `"pid": \d+`, `"start": \d+`, `"\d{4}-[^"]*Z"`, `"milliseconds": [\d.]+`, `"xid": [^,\n]*`} {
			text = regexp.MustCompile(pattern).ReplaceAllString(text, "…")
		}
		return text
	}
	for name, f := range map[string]struct {
		text string
		tidy func(string) string
	}{
		"wiring.txt":  {wired, func(text string) string { return randomMACs(t, text, s.MAC) }},
		"record.json": {record, tidy},
		"state.json":  {state, tidy},
	} {
		path := filepath.Join("testdata", name)
		if write {
			if err := os.WriteFile(path, []byte(f.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f.tidy(string(golden)), f.tidy(f.text)); diff != "" {
			t.Errorf("%s is not what the program does (-recorded +now):\n%s", name, diff)
		}
	}
}

func (s *site) read(name string) string {
	s.T.Helper()
	text, err := os.ReadFile(filepath.Join(s.StateDir, name))
	if err != nil {
		s.T.Fatal(err)
	}
	return string(text)
}

// TestEarlierProgramRefusesANewerWiring, and changes nothing of it. Its server changes none anyway: it warns, and serves.
func TestEarlierProgramRefusesANewerWiring(t *testing.T) {
	s := newSite(t, pod.Plain)
	s.Must("prepare")
	// The link that now has the pod's name is down, where a state is not waited for: the route comes a moment after the address.
	podtest.Until(t, "eth0 has its local route", func() bool {
		return strings.Contains(s.In(s.Pod.Namespace, "ip -6 route show table local dev eth0"), "local fe80:")
	})
	before := podtest.State(t, s.Pod.Namespace)
	const refusal = "newer podnic (version 2, this one reads up to 1)"
	for _, command := range []string{"prepare", "restore"} {
		out, errs, status := podtest.Run(t, s.command(command))
		if said := strings.Join(strings.Fields(out+errs), " "); status != 2 || !strings.Contains(said, refusal) {
			t.Errorf("the earlier podnic's %s: exit status %d: %s", command, status, said)
		}
	}
	server := podtest.Start(t, "the earlier podnic", s.command("serve", "--log-format", "json"))
	server.Says(refusal)
	server.Says(`"msg":"serving"`)
	server.End(syscall.SIGTERM)
	if diff := before.Diff(podtest.State(t, s.Pod.Namespace)); diff != "" {
		t.Errorf("it changed the wiring:\n%s", diff)
	}
	s.Must("restore")
	s.AsBefore()
	s.wireByProgram() // which goes back as the documents say
	podtest.Must(t, s.command("restore"))
	s.AsBefore()
}

// recorded makes a recording of what strace has written: system calls, and after each that sends something its bytes. The pod's
// interface had the index.
func recorded(t *testing.T, trace string, index int) string {
	t.Helper()
	var out strings.Builder
	protocolOf := map[string]string{} // by descriptor
	socket := regexp.MustCompile(`socket\(AF_NETLINK, .*, NETLINK_(ROUTE|NETFILTER)\) = (\d+)`)
	sendto := regexp.MustCompile(`sendto\((\d+), `)
	dump := regexp.MustCompile(`^ \| [0-9a-f]+  ((?:[0-9a-f]{2} {1,2})+)`)
	var protocol string
	var sent []byte
	flush := func() {
		if protocol != "" && len(sent) > 0 {
			out.WriteString(line(t, protocol, sent, index))
		}
		protocol, sent = "", nil
	}
	for lines := bufio.NewScanner(strings.NewReader(trace)); lines.Scan(); {
		text := lines.Text()
		if m := dump.FindStringSubmatch(text); m != nil {
			b, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			sent = append(sent, b...)
			continue
		}
		flush()
		switch m := socket.FindStringSubmatch(text); {
		case m != nil:
			protocolOf[m[2]] = map[string]string{"ROUTE": "rtnetlink", "NETFILTER": "netfilter"}[m[1]]
		case strings.Contains(text, "TUNSETIFF"):
			out.WriteString("tap tap0\n")
		case strings.Contains(text, "TUNSETPERSIST"):
			out.WriteString("persist\n")
		case regexp.MustCompile(`ioctl\(.*TUNSET`).MatchString(text):
			t.Fatalf("a recording knows nothing of %s", text)
		default:
			if m := sendto.FindStringSubmatch(text); m != nil {
				protocol = protocolOf[m[1]]
			}
		}
	}
	flush()
	return out.String()
}

// line is that of a recording for what was sent where the pod's interface had the index; empty for a question.
func line(t *testing.T, protocol string, sent []byte, index int) string {
	t.Helper()
	changed := ""
	err := each(sent, func(m []byte) error {
		if protocol == "rtnetlink" && changes[typeOf(m)] != "" {
			changed = changes[typeOf(m)] + " "
			binary.NativeEndian.PutUint32(m[8:], 0) // the number depends on how many questions there were
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const batch = 0x10 // NFNL_MSG_BATCH_BEGIN
	if changed == "" && (protocol != "netfilter" || typeOf(sent) != batch) {
		return ""
	}
	if changed != "" {
		if err := shift(sent, recordedIndex-index); err != nil {
			t.Fatal(err)
		}
	}
	return protocol + " " + changed + hex.EncodeToString(sent) + "\n"
}

// changes are the names of what changes something by rtnetlink.
var changes = map[uint16]string{
	unix.RTM_NEWLINK: "RTM_NEWLINK", unix.RTM_DELLINK: "RTM_DELLINK", unix.RTM_SETLINK: "RTM_SETLINK",
	unix.RTM_NEWADDR: "RTM_NEWADDR", unix.RTM_DELADDR: "RTM_DELADDR",
	unix.RTM_NEWROUTE: "RTM_NEWROUTE", unix.RTM_DELROUTE: "RTM_DELROUTE",
	unix.RTM_NEWNEIGH: "RTM_NEWNEIGH", unix.RTM_DELNEIGH: "RTM_DELNEIGH",
	unix.RTM_NEWRULE: "RTM_NEWRULE", unix.RTM_DELRULE: "RTM_DELRULE",
}

// randomMACs replaces the MACs in a recording that the program has drawn by lots (IFLA_ADDRESS of a link that is not the
// pod's), so that two recordings can be compared.
func randomMACs(t *testing.T, recording string, mac []byte) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(recording) {
		words := strings.Fields(line)
		if len(words) == 3 && words[1] == "RTM_NEWLINK" {
			b, err := hex.DecodeString(words[2])
			if err == nil {
				err = attributes(b, unix.SizeofIfInfomsg, func(kind uint16, value []byte) {
					if kind == unix.IFLA_ADDRESS && !slices.Equal(value, mac) {
						clear(value)
					}
				})
			}
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			line = strings.Join([]string{words[0], words[1], hex.EncodeToString(b)}, " ") + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}
