package domain

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/podnic/podnic/domain/internal/wire"
	"go.uber.org/zap"
)

const (
	vmXML  = `<domain type='qemu'><name>vm</name><devices><interface type='ethernet'><target dev='tap0' managed='no'/></interface></devices></domain>`
	vmUUID = "6fc0e8f4-0b5d-4a3f-9d35-5c1f8f0d2a11"
)

// daemon is a daemon that does what a test wants, with one domain at most.
type daemon struct {
	mu        sync.Mutex
	away      error // what dial answers, when set
	conns     []*daemonConn
	state     GuestState // of the domain; empty when there is none
	shutdowns []time.Time
	destroys  []time.Time
	xml       string   // of the domain that runs; empty is vmXML
	updates   []string // devices
	busy      error    // what update, attach and detach answer, when set
	attached  []string // devices
	asked     int      // how often the guest was asked to give one up
	onDetach  func()

	// These are called without the lock, onStart, onShutdown and onDestroy in the place of the daemon's own reaction.
	onStart    func()
	onLook     func() // after the state was looked up
	onShutdown func()
	onDestroy  func()
	onClose    func()
}

type daemonConn struct {
	*daemon
	deliver func(event)
	broken  chan struct{}
}

func (d *daemon) dial(_ context.Context, _ string, deliver func(event)) (conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away != nil {
		return nil, d.away
	}
	s := &daemonConn{daemon: d, deliver: deliver, broken: make(chan struct{})}
	d.conns = append(d.conns, s)
	return s, nil
}

// tell sends an event to whoever is connected, and changes the domain's state accordingly.
func (d *daemon) tell(e event) {
	e.uuid = vmUUID
	d.mu.Lock()
	if e.device == "" {
		d.state = e.state
	}
	conns := slices.Clone(d.conns)
	d.mu.Unlock()
	for _, s := range conns {
		s.deliver(e)
	}
}

// leave breaks all connections; come lets new ones in.
func (d *daemon) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = errors.New("connection refused")
	for _, s := range d.conns {
		close(s.broken)
	}
	d.conns = nil
}

func (d *daemon) come() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = nil
}

func (d *daemon) set(state GuestState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = state
}

func (s *daemonConn) lost() <-chan struct{} { return s.broken }

func (s *daemonConn) why() error { return errors.New("the daemon left") }

func (s *daemonConn) close() {
	if s.onClose != nil {
		s.onClose()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(other *daemonConn) bool { return other == s })
}

func (s *daemonConn) start([]byte) (string, error) {
	s.set(GuestRunning)
	if s.onStart != nil {
		s.onStart()
	}
	return vmUUID, nil
}

func (s *daemonConn) find(string) (*found, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == "" {
		return nil, nil
	}
	return &found{uuid: vmUUID, xml: []byte(vmXML), state: s.state}, nil
}

func (s *daemonConn) lookUp(string) (GuestState, error) {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if s.onLook != nil {
		s.onLook()
	}
	if state == "" {
		return "", errGone
	}
	return state, nil
}

func (s *daemonConn) describe(string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == "" {
		return nil, errGone
	}
	return []byte(cmp.Or(s.xml, vmXML)), nil
}

// update makes the one device that the domain has what is given.
func (s *daemonConn) update(_ string, device []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy != nil {
		return s.busy
	}
	s.updates = append(s.updates, string(device))
	s.xml = "<domain type='qemu'><name>vm</name><devices>" + string(device) + "</devices></domain>"
	return nil
}

func (s *daemonConn) attach(_ string, device []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached = append(s.attached, string(device))
	return s.busy
}

func (s *daemonConn) detach(string, string) error {
	s.mu.Lock()
	s.asked++
	busy, react := s.busy, s.onDetach
	s.mu.Unlock()
	if react != nil && busy == nil {
		go react()
	}
	return busy
}

func (s *daemonConn) shutdown(string) error {
	s.mu.Lock()
	s.shutdowns = append(s.shutdowns, time.Now())
	s.mu.Unlock()
	if s.onShutdown != nil {
		s.onShutdown()
	}
	return nil
}

func (s *daemonConn) version() (*wire.Daemon, error) {
	return &wire.Daemon{Driver: "QEMU", Libvirt: 9_000_000, Hypervisor: 7_002_022}, nil
}

func (s *daemonConn) destroy(string) error {
	s.mu.Lock()
	s.destroys = append(s.destroys, time.Now())
	s.mu.Unlock()
	if s.onDestroy != nil {
		s.onDestroy()
		return nil
	}
	s.tell(destroyed)
	return nil
}

var (
	shutDown  = event{ended: true, how: Shutdown, reason: "the guest shut down"}
	destroyed = event{ended: true, how: DestroyedByOther, reason: "the domain was destroyed"}
	failed    = event{ended: true, how: Crashed, reason: "the emulator ended unexpectedly"}
)

// connected is a connection to a daemon within a bubble of synctest, closed at its end.
func connected(t *testing.T, d *daemon) *Connection {
	t.Helper()
	c, err := connect(t.Context(), d.dial, "test:///", time.Second, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func started(t *testing.T, d *daemon) *Guest {
	t.Helper()
	g, err := connected(t, d).Start([]byte(vmXML))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// following is Follow in a goroutine of its own.
type following struct {
	mu     sync.Mutex
	states []GuestState
	ending Ending
	err    error
	done   chan struct{}
}

func follow(t *testing.T, g *Guest) *following {
	f := &following{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.ending, f.err = g.Follow(t.Context(), func(s GuestState) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.states = append(f.states, s)
		})
	}()
	return f
}

func (f *following) wait(t *testing.T) Ending {
	t.Helper()
	<-f.done
	if f.err != nil {
		t.Fatal(f.err)
	}
	return f.ending
}

func TestFollowTellsHowTheGuestEnded(t *testing.T) {
	panicked := sighting("", GuestCrashed)
	bySignal := event{state: GuestShuttingDown, how: DestroyedByOther, reason: "told to end"}
	halted := event{state: GuestShuttingDown}
	resumed := event{state: GuestRunning}
	paused := event{state: GuestPaused}

	for name, test := range map[string]struct {
		events []event
		ending Ending
		states []GuestState
	}{
		"shut down":           {[]event{halted, shutDown}, Ending{Shutdown, "the guest shut down"}, []GuestState{GuestRunning, GuestShuttingDown}},
		"destroyed":           {[]event{destroyed}, Ending{DestroyedByOther, "the domain was destroyed"}, []GuestState{GuestRunning}},
		"emulator killed":     {[]event{failed}, Ending{Crashed, "the emulator ended unexpectedly"}, []GuestState{GuestRunning}},
		"emulator told":       {[]event{bySignal, shutDown}, Ending{DestroyedByOther, "told to end"}, []GuestState{GuestRunning, GuestShuttingDown}},
		"destroyed in order":  {[]event{bySignal, destroyed}, Ending{DestroyedByOther, "the domain was destroyed"}, []GuestState{GuestRunning, GuestShuttingDown}},
		"panic, on_crash":     {[]event{panicked, destroyed}, Ending{Crashed, "the guest panicked; the domain was destroyed"}, []GuestState{GuestRunning, GuestCrashed}},
		"panic, preserved":    {[]event{panicked, bySignal, destroyed}, Ending{Crashed, "the guest panicked; the domain was destroyed"}, []GuestState{GuestRunning, GuestCrashed, GuestShuttingDown}},
		"panic, then a reset": {[]event{panicked, resumed, shutDown}, Ending{Shutdown, "the guest shut down"}, []GuestState{GuestRunning, GuestCrashed, GuestRunning}},
		"reboot":              {[]event{halted, resumed, destroyed}, Ending{DestroyedByOther, "the domain was destroyed"}, []GuestState{GuestRunning, GuestShuttingDown, GuestRunning}},
		"recreated":           {[]event{{state: GuestRestarting}, resumed, shutDown}, Ending{Shutdown, "the guest shut down"}, []GuestState{GuestRunning, GuestRestarting, GuestRunning}},
		"paused twice":        {[]event{paused, paused, resumed, shutDown}, Ending{Shutdown, "the guest shut down"}, []GuestState{GuestRunning, GuestPaused, GuestRunning}},
		"the first ending":    {[]event{failed, destroyed}, Ending{Crashed, "the emulator ended unexpectedly"}, []GuestState{GuestRunning}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{}
				f := follow(t, started(t, d))
				for _, e := range test.events {
					synctest.Wait()
					d.tell(e)
				}
				if got := f.wait(t); got != test.ending {
					t.Errorf("got %v, want %v", got, test.ending)
				}
				if !slices.Equal(f.states, test.states) {
					t.Errorf("states %q, want %q", f.states, test.states)
				}
			})
		})
	}
}

func TestAnEndingDuringTheStartIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		d.onStart = func() { d.tell(event{state: GuestRunning}); d.tell(failed) }
		g := started(t, d)
		if got := follow(t, g).wait(t); got.How != Crashed {
			t.Errorf("got %v", got)
		}
		if err := g.Stop(t.Context(), time.Minute); err != nil || len(d.destroys) > 0 {
			t.Errorf("stop a guest that has ended: %v, %d destroys", err, len(d.destroys))
		}
	})
}

func TestALostConnectionIsMadeAgain(t *testing.T) {
	for name, test := range map[string]struct {
		meanwhile GuestState
		after     *event
		want      How
	}{
		"the guest runs on":          {GuestRunning, &shutDown, Shutdown},
		"the guest is paused":        {GuestPaused, &destroyed, DestroyedByOther},
		"the guest has panicked":     {GuestCrashed, &destroyed, Crashed},
		"the guest is gone":          {"", nil, Unknown},
		"the guest ends as we knock": {GuestRunning, &failed, Crashed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{}
				f := follow(t, started(t, d))
				synctest.Wait()
				d.leave()
				time.Sleep(time.Hour) // as long as it takes
				d.set(test.meanwhile)
				d.come()
				time.Sleep(2 * lastRetry)
				if test.after != nil {
					d.tell(*test.after)
				}
				if got := f.wait(t); got.How != test.want {
					t.Errorf("got %v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestNewsIsNotOverriddenByAnOldAnswer: the answer to a question and an event that came after it race to the guest.
func TestNewsIsNotOverriddenByAnOldAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		f := follow(t, started(t, d))
		synctest.Wait()
		d.leave()
		d.onLook = func() { d.tell(sighting("", GuestCrashed)) }
		d.come()
		time.Sleep(2 * lastRetry)
		d.tell(destroyed)
		if got := f.wait(t); got.How != Crashed {
			t.Errorf("got %v", got)
		}
		if !slices.Equal(f.states, []GuestState{GuestRunning, GuestCrashed}) {
			t.Errorf("states %q", f.states)
		}
	})
}

func TestCloseDoesNotWaitForAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		var closes atomic.Int32
		d := &daemon{
			onLook: func() { <-closed },
			onClose: func() {
				if closes.Add(1) == 2 { // the first is that of the connection that is lost
					close(closed)
				}
			},
		}
		g := started(t, d)
		f := follow(t, g)
		synctest.Wait()
		d.leave()
		d.come()
		time.Sleep(2 * lastRetry)
		g.connection.Close()
		if <-f.done; !errors.Is(f.err, errClosed) {
			t.Errorf("follow: %v", f.err)
		}
	})
}

func TestStop(t *testing.T) {
	for name, test := range map[string]struct {
		grace      time.Duration
		deafFor    int // requests that the guest does not hear
		state      GuestState
		away       time.Duration // how long the daemon is, from the call on
		want       How
		took       time.Duration
		asked      int
		destructed int
	}{
		"the guest obeys":                  {30 * time.Second, 0, GuestRunning, 0, Shutdown, 0, 1, 0},
		"the guest obeys the third time":   {30 * time.Second, 2, GuestRunning, 0, Shutdown, 10 * time.Second, 3, 0},
		"the guest never obeys":            {12 * time.Second, 99, GuestRunning, 0, DestroyedAfterGrace, 12 * time.Second, 3, 1},
		"no grace":                         {0, 0, GuestRunning, 0, DestroyedAfterGrace, 0, 0, 1},
		"the guest has crashed":            {30 * time.Second, 0, GuestCrashed, 0, Crashed, 0, 0, 1},
		"the daemon is away for a while":   {30 * time.Second, 0, GuestRunning, 4 * time.Second, Shutdown, 5 * time.Second, 1, 0},
		"the daemon is away for the grace": {5 * time.Second, 0, GuestRunning, 6 * time.Second, DestroyedAfterGrace, 7 * time.Second, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{}
				d.onShutdown = func() {
					if len(d.shutdowns) > test.deafFor {
						d.tell(shutDown)
					}
				}
				g := started(t, d)
				f := follow(t, g)
				d.tell(sighting("", test.state))
				synctest.Wait()
				if test.away > 0 {
					d.leave()
					synctest.Wait()
					time.AfterFunc(test.away, d.come)
				}
				start := time.Now()
				if err := g.Stop(t.Context(), test.grace); err != nil {
					t.Fatal(err)
				}
				if got := time.Since(start); got != test.took {
					t.Errorf("took %s, want %s", got, test.took)
				}
				if got := f.wait(t); got.How != test.want {
					t.Errorf("got %v, want %v", got, test.want)
				}
				if len(d.shutdowns) != test.asked || len(d.destroys) != test.destructed {
					t.Errorf("asked %d times, destroyed %d times; want %d and %d", len(d.shutdowns), len(d.destroys), test.asked, test.destructed)
				}
			})
		})
	}
}

func TestStopIsCutShortByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, &daemon{})
		f := follow(t, g)
		first := make(chan error)
		go func() { first <- g.Stop(t.Context(), time.Hour) }()
		time.Sleep(time.Minute)
		if err := g.Stop(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		if got := f.wait(t); got.How != DestroyedAfterGrace {
			t.Errorf("got %v", got)
		}
	})
}

func TestFindAdoptsAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		c := connected(t, d)
		if g, err := c.Find("vm"); g != nil || err != nil {
			t.Fatalf("found %v, %v where there is none", g, err)
		}
		d.set(GuestPaused)
		g, err := c.Find("vm")
		if err != nil {
			t.Fatal(err)
		}
		if g.UUID() != vmUUID || g.Name() != "vm" || !slices.Equal(g.Taps(), []string{"tap0"}) {
			t.Errorf("found %s %s %s", g.UUID(), g.Name(), g.Taps())
		}
		if again, _ := c.Find("vm"); again != g {
			t.Error("found again, it is another")
		}
		f := follow(t, g)
		synctest.Wait()
		d.tell(shutDown)
		f.wait(t)
		if !slices.Equal(f.states, []GuestState{GuestPaused}) {
			t.Errorf("states %q", f.states)
		}
		d.set(GuestRunning)
		if again, _ := c.Find("vm"); again == g {
			t.Error("a guest that ended was found where another of the same UUID runs")
		}
	})
}

func TestCloseAndCancelEndTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{onDestroy: func() {}}
		c, err := connect(t.Context(), d.dial, "test:///", time.Second, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		g, err := c.Start([]byte(vmXML))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.Follow(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("follow: %v", err)
		}
		if err := g.Stop(ctx, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("stop: %v", err)
		}
		if err := g.Stop(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("stop at once: %v", err)
		}
		f := follow(t, g)
		stopped := make(chan error)
		go func() { stopped <- g.Stop(t.Context(), time.Minute) }()
		synctest.Wait()
		d.leave() // so that it is closed in the middle of connecting
		synctest.Wait()
		c.Close()
		<-f.done
		if !errors.Is(f.err, errClosed) {
			t.Errorf("follow: %v", f.err)
		}
		if err := <-stopped; !errors.Is(err, errClosed) {
			t.Errorf("stop: %v", err)
		}
		if _, err := c.Find("vm"); !errors.Is(err, errClosed) {
			t.Errorf("find: %v", err)
		}
	})
}

func TestConnectWaitsForTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{away: errors.New("connection refused")}
		time.AfterFunc(20*time.Second, d.come)
		c, err := connect(t.Context(), d.dial, "qemu:///system", 30*time.Second, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

func TestConnectSaysWhyItGaveUp(t *testing.T) {
	for name, test := range map[string]struct {
		cause error
		ctx   time.Duration
		took  time.Duration
		want  string
	}{
		"nobody there": {errors.New("no such file"), time.Hour, 30 * time.Second,
			"connect to libvirt at qemu:///system: no answer on /var/run/libvirt/virtqemud-sock or /var/run/libvirt/libvirt-sock within 30s: no such file: " +
				"start libvirtd or virtqemud in this container, or share its socket directory with it"},
		"waiting is no use": {permanentError{errors.New("permission denied"), "be root"}, time.Hour, 0,
			"connect to libvirt at qemu:///system: permission denied: be root"},
		"interrupted": {errors.New("no such file"), time.Second, time.Second,
			"connect to libvirt at qemu:///system: interrupted while waiting for an answer on /var/run/libvirt/virtqemud-sock or /var/run/libvirt/libvirt-sock: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.ctx)
				defer cancel()
				start := time.Now()
				_, err := connect(ctx, (&daemon{away: test.cause}).dial, "qemu:///system", 30*time.Second, zap.NewNop())
				if got := time.Since(start); got != test.took {
					t.Errorf("took %s, want %s", got, test.took)
				}
				if err == nil || err.Error() != test.want {
					t.Errorf("got  %v\nwant %s", err, test.want)
				}
				if !errors.Is(err, test.cause) && !strings.Contains(test.want, "root") {
					t.Error("the cause is not wrapped")
				}
			})
		})
	}
}

func TestSocketsOfAURI(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1000")
	for uri, want := range map[string]string{
		"qemu:///system":                    "/var/run/libvirt/virtqemud-sock /var/run/libvirt/libvirt-sock",
		"qemu+unix:///system":               "/var/run/libvirt/virtqemud-sock /var/run/libvirt/libvirt-sock",
		"qemu:///session":                   "/run/user/1000/libvirt/virtqemud-sock /run/user/1000/libvirt/libvirt-sock",
		"qemu:///system?socket=/run/x.sock": "/run/x.sock",
		"":                                  "/var/run/libvirt/libvirt-sock",
		"qemu+ssh://host/system":            "",
		"qemu+tcp:///system":                "",
		"test:///default":                   "",
		"%%%":                               "",
	} {
		if got := strings.Join(sockets(uri), " "); got != want {
			t.Errorf("%s: got %s, want %s", uri, got, want)
		}
	}
}
