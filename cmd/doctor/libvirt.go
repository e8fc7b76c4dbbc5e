package doctor

import (
	"context"

	"github.com/podnic/podnic/domain"
	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/network/identity"
	"go.uber.org/zap"
)

// libvirt is a connection that is made when it is first asked for.
type libvirt struct {
	tried      bool
	connection *domain.Connection
	err        error
}

func (v *visit) connect() (*domain.Connection, error) {
	l := &v.libvirt
	if !l.tried {
		l.tried = true
		l.connection, l.err = domain.Connect(context.Background(), v.URI, v.ConnectTimeout, zap.NewNop())
	}
	return l.connection, l.err
}

func (l *libvirt) close() {
	if l.connection != nil {
		l.connection.Close()
	}
}

func (v *visit) reachLibvirt() outcome {
	connection, err := v.connect()
	if err != nil && domain.HelperMissing() != nil && v.isHook() {
		return ok("podnic is libvirt's hook here, which calls no libvirt; podnic-libvirt, which is not beside it, is for `podnic run` alone")
	}
	if err != nil {
		return sentence(Fail, err.Error()) // its last words are the remedy
	}
	version, err := connection.Version()
	if err != nil {
		return fail("%v", err)
	}
	return ok("%s", version)
}

// document is the XML of the guest that was given the interface; nil where it cannot be had.
func (v *visit) document() *domainxml.Document {
	if v.seen == nil || v.seen.Record == nil || v.seen.Record.Domain == nil {
		return nil
	}
	connection, err := v.connect()
	if err != nil {
		return nil
	}
	document, err := connection.Document(v.seen.Record.Domain.Name)
	if err != nil {
		return nil
	}
	return document
}

// card is the MAC that the guest's card has, if libvirt tells.
func (v *visit) card() (mac identity.MAC, known bool) {
	document := v.document()
	if document == nil {
		return mac, false
	}
	for _, i := range document.Interfaces() {
		if i.Tap == v.seen.Names.Tap {
			return i.MAC, true
		}
	}
	return mac, false
}
