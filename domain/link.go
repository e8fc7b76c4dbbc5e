package domain

import (
	"context"
	"time"

	"github.com/podnic/podnic/domain/domainxml"
	"go.uber.org/zap"
)

// FollowCarrier keeps the link of the guest's interface on a tap up while there is a carrier and down while there is none,
// until the guest has ended, ctx ends or the connection is closed. What carrier yields is what the link should be from then
// on. lowered says that an earlier process has taken the link down, and is what note is told of ours, before it is done. A
// link that somebody else has taken down stays down. A lost connection is waited for.
func (g *Guest) FollowCarrier(ctx context.Context, tap string, carrier <-chan bool, lowered bool, note func(lowered bool)) {
	l := &link{guest: g, tap: tap, lowered: lowered, note: note}
	var up bool
	var retry <-chan time.Time
	complaint := ""
	for {
		select {
		case up = <-carrier:
		case <-retry:
		case <-g.ended:
			return
		case <-g.connection.closed.Done():
			return
		case <-ctx.Done():
			return
		}
		retry = nil
		err := l.follow(up)
		if err == nil {
			complaint = ""
			continue
		}
		retry = time.After(lastRetry)
		if text := err.Error(); text != complaint {
			g.complain("set the guest's link "+domainxml.LinkState(up)+"; trying again", err)
			complaint = text
		}
	}
}

// link is the guest's end of a tap.
type link struct {
	guest   *Guest
	tap     string
	lowered bool // down, and our doing
	note    func(lowered bool)
}

// follow makes the link what it should be.
func (l *link) follow(up bool) error {
	s, err := l.guest.connection.conn()
	if err != nil {
		return err
	}
	xml, err := s.describe(l.guest.uuid)
	if err != nil {
		return err
	}
	d, err := domainxml.Parse(xml)
	if err != nil {
		return err
	}
	e, err := d.InterfaceOf(l.tap)
	if err != nil {
		return err
	}
	down := d.LinkDown(l.tap)
	switch {
	case e == nil:
		return nil // it was unplugged
	case up && !down:
		l.set(false)
		return nil
	case up && !l.lowered:
		l.guest.connection.log.Info("the guest's link is down, which is not podnic's doing, and stays so",
			zap.String("domain", l.guest.name), zap.String("tap", l.tap))
		return nil
	case !up && down:
		return nil
	}
	device, err := d.WithLink(l.tap, up)
	if err != nil {
		return err
	}
	if !up {
		l.set(true) // written first, so that the next podnic knows that it was us
	}
	if err := s.update(l.guest.uuid, device); err != nil {
		return err
	}
	if up {
		l.set(false)
	}
	l.guest.connection.log.Info("the guest's link is "+domainxml.LinkState(up)+", as the carrier of the pod's interface is",
		zap.String("domain", l.guest.name), zap.String("tap", l.tap))
	return nil
}

func (l *link) set(lowered bool) {
	if l.lowered != lowered {
		l.lowered = lowered
		l.note(lowered)
	}
}
