package domain

import (
	"fmt"

	"github.com/podnic/podnic/domain/internal/wire"
)

// call makes a call that is answered with a domain or with nothing.
func (p *process) call(r wire.Request) (*wire.Domain, error) {
	response, err := p.exchange(r)
	if err != nil {
		return nil, err
	}
	return response.Domain, nil
}

// exchange asks the helper and waits for its answer.
func (p *process) exchange(r wire.Request) (*wire.Response, error) {
	answer := make(chan *wire.Response, 1)
	p.mu.Lock()
	p.last++
	r.ID = p.last
	p.waiting[r.ID] = answer
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, r.ID)
	}()
	if err := p.send(r); err != nil {
		p.kill() // what it does not take in, it cannot answer
	}
	select {
	case response := <-answer:
		return response, callError(response.Error)
	case <-p.ended:
	}
	select {
	case response := <-answer: // its last words
		return response, callError(response.Error)
	default:
		return nil, p.why()
	}
}

func (p *process) send(r wire.Request) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.out.Encode(r)
}

// answer wakes the call that waits for a response.
func (p *process) answer(r *wire.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting := p.waiting[r.ID]; waiting != nil {
		waiting <- r
		delete(p.waiting, r.ID)
	}
}

func callError(e *wire.Error) error {
	switch {
	case e == nil:
		return nil
	case e.Kind == wire.KindGone:
		return errGone
	case e.Kind == wire.KindPermanent:
		return permanentError{e, e.Remedy}
	}
	return e
}

// inquire makes a call that is answered with a domain.
func (p *process) inquire(r wire.Request) (*wire.Domain, error) {
	d, err := p.call(r)
	if err == nil && d == nil {
		return nil, fmt.Errorf("podnic-libvirt did not answer what it was asked to %s", r.Call)
	}
	return d, err
}

func (p *process) start(xml []byte) (string, error) {
	d, err := p.inquire(wire.Request{Call: wire.Start, XML: xml})
	if err != nil {
		return "", err
	}
	return d.UUID, nil
}

func (p *process) find(name string) (*found, error) {
	d, err := p.call(wire.Request{Call: wire.Find, Name: name})
	if d == nil || err != nil {
		return nil, err
	}
	return &found{uuid: d.UUID, xml: d.XML, state: GuestState(d.State)}, nil
}

func (p *process) lookUp(uuid string) (GuestState, error) {
	d, err := p.inquire(wire.Request{Call: wire.LookUp, UUID: uuid})
	if err != nil {
		return "", err
	}
	return GuestState(d.State), nil
}

func (p *process) describe(uuid string) ([]byte, error) {
	d, err := p.inquire(wire.Request{Call: wire.Describe, UUID: uuid})
	if err != nil {
		return nil, err
	}
	return d.XML, nil
}

func (p *process) update(uuid string, device []byte) error {
	_, err := p.call(wire.Request{Call: wire.Update, UUID: uuid, XML: device})
	return err
}

func (p *process) attach(uuid string, device []byte) error {
	_, err := p.call(wire.Request{Call: wire.Attach, UUID: uuid, XML: device})
	return err
}

func (p *process) detach(uuid, alias string) error {
	_, err := p.call(wire.Request{Call: wire.Detach, UUID: uuid, Name: alias})
	return err
}

func (p *process) shutdown(uuid string) error {
	_, err := p.call(wire.Request{Call: wire.Shutdown, UUID: uuid})
	return err
}

func (p *process) destroy(uuid string) error {
	_, err := p.call(wire.Request{Call: wire.Destroy, UUID: uuid})
	return err
}

func (p *process) version() (*wire.Daemon, error) {
	response, err := p.exchange(wire.Request{Call: wire.Version})
	if err == nil && response.Daemon == nil {
		err = fmt.Errorf("podnic-libvirt did not answer what it was asked to %s", wire.Version)
	}
	if err != nil {
		return nil, err
	}
	return response.Daemon, nil
}
