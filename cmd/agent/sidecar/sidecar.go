// Package sidecar serves the interfaces of a launcher pod of KubeVirt that the VMI gives podnic's binding, when and as the
// launcher asks for it.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/serving"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
	"go.uber.org/zap"
)

// Request is what a sidecar of a KubeVirt launcher pod serves. It can be written as JSON: the program podnic-sidecar
// gets it from podnic.
type Request struct {
	// Version is that of the podnic that made the request.
	Version string
	network.Request
	Service offering.Service
	Socket  kubevirt.Socket
	// Plugin is the name under which the binding is registered with KubeVirt, empty where that is not known: then the only
	// plugin of the VMI is meant.
	Plugin string
	// LogLevel and LogFormat are the flags of these names.
	LogLevel, LogFormat string
	// Started is when the program was.
	Started time.Time
}

// definePatience bounds the wait of OnDefineDomain for the server: by then KubeVirt has long wired the pod, and the guest
// must not be started before it is heard; but the launcher has to be answered.
const definePatience = 500 * time.Millisecond

// restAfter is when after a call of the launcher's memory is given back: a start needs more of it than the rest of a
// sidecar's life, which is idle.
const restAfter = time.Second

// sidecar serves the interfaces of a launcher pod that the VMI gives podnic's binding. Which these are, the launcher says
// when it defines the domain. Until then it records what all of the pod's interfaces hold, since KubeVirt's node agent,
// which wires them, does not keep all of it.
type sidecar struct {
	req Request
	ns  *network.Namespace
	ctx context.Context
	log *zap.Logger
	end context.CancelFunc

	mu      sync.Mutex
	served  map[string]*tenancy // by the pod's name for the interface
	started bool                // the machine was started here, and not migrated here
	wait    sync.WaitGroup
}

// tenancy is the service of one interface, which may still wait for its wiring.
type tenancy struct {
	ready  chan struct{} // closed when the guest can be heard
	ended  chan struct{} // closed when it has ended, err is why
	err    error
	reload chan os.Signal
}

// Run records, opens the socket, and serves until the context ends or the launcher says that the guest has ended.
func Run(ctx context.Context, r Request, serve kubevirt.Serve, reload <-chan os.Signal, log *zap.Logger) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	ns, err := network.OpenNamespace(r.Namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	s := &sidecar{req: r, ns: ns, ctx: ctx, end: end, log: log, served: make(map[string]*tenancy)}
	go s.reloadAll(reload)
	if err := s.record(); err != nil {
		return err
	}
	s.resume()
	err = serve(ctx, r.Socket, s, func() {
		log.Info("waiting for the launcher", zap.String("socket", filepath.Join(r.Socket.Dir, r.Socket.Name)), zap.String("binding", r.Plugin))
		debug.FreeOSMemory()
	})
	end()
	s.wait.Wait()
	return err
}

// request is that of one interface.
func (s *sidecar) request(iface string) network.Request {
	req := s.req.Request
	req.Options.Interface = iface
	return req
}

// record writes down what each interface of the pod holds, unless it is wired already.
func (s *sidecar) record() error {
	names, err := network.PodInterfaces(s.req.Request)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.req.StateDir, 0o700); err != nil {
		return plan.Refuse("the state directory cannot be made (%w): name a directory that can be written with --state-dir", err)
	}
	for _, name := range names {
		seen, err := network.RecordManaged(s.request(name))
		switch {
		case network.IsRefusal(err):
			// Such as a link without an Ethernet address: it may be none that the VMI knows of.
			s.log.Warn("an interface cannot be served", zap.String("interface", name), zap.Error(err))
		case err != nil:
			return err
		case seen.Wired:
			s.log.Info("the interface is wired already", zap.String("interface", seen.Names.Interface), zap.String("binding", seen.Options.Binding))
		default:
			s.log.Debug("recorded", zap.String("interface", name))
		}
	}
	return nil
}

// resume goes on with what an earlier container of this pod served: the launcher will not ask again. The directory
// outlives containers, and a state of this namespace says what was served.
func (s *sidecar) resume() {
	names, err := statedir.Interfaces(s.req.StateDir)
	if err != nil {
		return // none was
	}
	for _, name := range names {
		req := s.request(name)
		seen, err := network.Inspect(req)
		if err != nil || !seen.Wired {
			continue
		}
		if state, err := statefile.Load(req.StateDir, name, seen.ID); err == nil && state != nil {
			s.log.Info("serving again what an earlier sidecar of this pod served", zap.String("interface", name))
			config, err := loadVMIConfig(req.StateDir, name)
			if err != nil {
				s.log.Warn("the guest is told what the pod had, and no more", zap.String("interface", name), zap.Error(err))
			}
			s.started = true
			s.serve(name, config)
		}
	}
}

// OnDefineDomain implements kubevirt.Callbacks.
func (s *sidecar) OnDefineDomain(ctx context.Context, xml, text []byte) ([]byte, error) {
	time.AfterFunc(restAfter, freeHeap)
	vmi, err := kubevirt.ParseVMI(text)
	if err != nil {
		return nil, err
	}
	if err := s.refuseMigration(vmi); err != nil {
		return nil, err
	}
	bound, err := vmi.Bound(s.req.Plugin)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, definePatience)
	defer cancel()
	for _, i := range bound {
		seen, err := s.find(i)
		if err != nil {
			return nil, fmt.Errorf("VMI %s: %w", vmi, err)
		}
		t := s.serve(seen.Names.Interface, vmiConfig{Subdomain: vmi.Spec.Subdomain, DHCP: i.DHCP})
		if xml, err = s.fill(xml, i, seen); err != nil {
			return nil, err
		}
		select {
		case <-t.ready:
		case <-t.ended:
			if s.ctx.Err() != nil {
				return nil, errors.New("the sidecar is about to end")
			}
			return nil, fmt.Errorf("VMI %s: the interface %s cannot be served: %w", vmi, i.Name, t.err)
		case <-ctx.Done():
			s.log.Warn("the domain is defined, but the interface is not wired yet", zap.Stringer("vmi", vmi), zap.String("interface", seen.Names.Interface))
		}
	}
	return xml, nil
}

// refuseMigration refuses to be the target of a live migration: the guest would have the MAC and the address of the pod that
// it comes from, and the sidecar would answer another MAC, its own pod's. A guest that has once started here is no longer a target.
func (s *sidecar) refuseMigration(vmi *kubevirt.VMI) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	target := vmi.MigrationTarget()
	if target == "" || s.started {
		s.started = true
		return nil
	}
	return fmt.Errorf("VMI %s: it cannot be migrated to the pod %s: the guest has the MAC and the address of the pod that it runs in, and podnic does not move them yet; "+
		"set evictionStrategy: None, so that KubeVirt does not try", vmi, target)
}

// Shutdown implements kubevirt.Callbacks.
func (s *sidecar) Shutdown() {
	s.log.Info("the launcher says that the guest has ended")
	s.end()
}

// find looks for the VMI's interface in the pod.
func (s *sidecar) find(i kubevirt.Interface) (*network.Inspection, error) {
	var failed []error
	for _, name := range i.PodNames {
		// One that was plugged in since the start, and is not wired yet, is recorded now.
		seen, err := network.RecordManaged(s.request(name))
		switch {
		case err != nil:
			failed = append(failed, err)
		case seen.Wired && seen.Options.Socket != plan.SocketUDP:
			return nil, fmt.Errorf("%s is wired with --socket %s, and a sidecar has no capability for that: wire it with udp", name, seen.Options.Socket)
		default:
			return seen, nil
		}
	}
	return nil, fmt.Errorf("the interface %s is not in the pod as %s: %w", i.Name, strings.Join(i.PodNames, " or "), errors.Join(failed...))
}

// fill puts the interface into the domain. KubeVirt has put it there, with the tap's name and as many queues as it gave the
// tap, if the binding is registered with a domainAttachmentType.
func (s *sidecar) fill(xml []byte, i kubevirt.Interface, seen *network.Inspection) ([]byte, error) {
	document, err := domainxml.Parse(xml)
	if err != nil {
		return nil, err
	}
	pod := seen.Original.Link(plan.NIC)
	nic := domainxml.NIC{
		Tap: plan.ManagedTapNames(seen.Names.Interface).Tap, MAC: pod.MAC, MTU: seen.Original.GuestMTU(), Alias: i.Alias(), Model: i.Model,
		Placement: domainxml.Placement(i.Placement),
	}
	if seen.Wired {
		nic.Tap = seen.Names.Tap
	}
	if mac, err := identity.ParseMAC(i.MAC); err == nil && mac != pod.MAC {
		s.log.Warn("the VMI asks for another MAC than the pod has, and gets the pod's: the pod network knows no other",
			zap.String("interface", i.Name), zap.Stringer("asked", mac), zap.Stringer("pod", pod.MAC))
	}
	asked, err := document.Queues(nic)
	if err != nil {
		return nil, err
	}
	switch {
	case !seen.Wired:
		nic.Queues = asked
	case seen.Options.Queues > 1:
		nic.Queues = max(asked, seen.Options.Queues)
	}
	return document.Fill(nic)
}

// serve serves an interface from when it is wired on. What is served already, or waited for, is left alone; what has failed
// is tried again.
func (s *sidecar) serve(iface string, config vmiConfig) *tenancy {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.served[iface]; t != nil {
		select {
		case <-t.ended:
		default:
			return t
		}
	}
	t := &tenancy{ready: make(chan struct{}), ended: make(chan struct{}), reload: make(chan os.Signal, 1)}
	s.served[iface] = t
	s.wait.Go(func() {
		defer close(t.ended)
		if t.err = s.attend(iface, config, t); t.err != nil && s.ctx.Err() == nil {
			s.log.Error("an interface is not served", zap.String("interface", iface), zap.Error(t.err))
		}
	})
	return t
}

// attend waits for the wiring of an interface and serves it until the sidecar ends.
func (s *sidecar) attend(iface string, config vmiConfig, t *tenancy) error {
	req := s.request(iface)
	service, err := config.apply(s.req.Service)
	if err != nil {
		return err
	}
	if err := config.save(req.StateDir, iface); err != nil {
		return err
	}
	seen, err := network.AwaitWired(s.ctx, req)
	if err != nil {
		return err
	}
	wired := time.Now()
	claim, err := serving.NewClaim(s.ns, iface)
	if err != nil {
		return err
	}
	serving, err := serving.New(req, service, seen, claim, s.log)
	if err != nil {
		claim.Release()
		return err
	}
	defer serving.Close()
	serving.Change(func(state *statefile.State) {
		state.Timeline.Add(statefile.EventStarted, s.req.Started)
		state.Timeline.Add(statefile.EventWired, wired)
	})
	ctx, end := context.WithCancelCause(s.ctx)
	defer end(nil)
	go func() {
		select {
		case <-serving.Ready():
		case <-ctx.Done():
			return
		}
		if seen.Options.Binding == plan.BindingManagedTap && serving.AnswersIPv4() && !seen.ServerHeld {
			end(fmt.Errorf("no link of the pod has the address %s, so nothing can be sent to the guest: the binding's networkAttachmentDefinition "+
				"has to call podnic's CNI plugin, which gives it to lo", seen.Server))
			return
		}
		close(t.ready)
	}()
	err = serving.Run(ctx, t.reload)
	if s.ctx.Err() == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// reloadAll passes a signal on to all servers.
func (s *sidecar) reloadAll(reload <-chan os.Signal) {
	for {
		select {
		case signal := <-reload:
			s.mu.Lock()
			for _, t := range s.served {
				select {
				case t.reload <- signal:
				default: // it will read everything anew anyway
				}
			}
			s.mu.Unlock()
		case <-s.ctx.Done():
			return
		}
	}
}

// freeHeap returns to the system what is not used. What is pooled goes only with a second collection.
func freeHeap() {
	runtime.GC()
	debug.FreeOSMemory()
}
