package domain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// askAgain is how often a guest is asked to shut down. A firmware or a boot loader drops the request, and so does a system
// that has not started listening to its power button: a single request at the wrong moment would always cost the whole grace
// period. A system that is shutting down already takes no notice of another one.
const askAgain = 5 * time.Second

// Stop asks the guest to shut down, again and again, by the agent in the guest or its power button as libvirt decides
// (virDomainShutdown), and destroys it when it has not ended after the grace period. A guest that has crashed and was
// preserved cannot answer and is destroyed at once. Stop returns when the guest has ended, which Follow then reports as
// Shutdown or DestroyedAfterGrace; the error is that ctx ended or the connection was closed before. A lost connection is
// waited for. Several calls may be made at once: the shortest grace period wins.
func (g *Guest) Stop(ctx context.Context, grace time.Duration) error {
	over := time.NewTimer(grace)
	defer over.Stop()
	for asking := grace > 0; asking && !g.crashed(); {
		wait := askAgain
		if err := g.ask(); err != nil {
			wait = lastRetry
			g.complain("ask the guest to shut down", err)
		}
		select {
		case <-time.After(wait):
		case <-over.C:
			asking = false
		case <-g.ended:
			return nil
		case <-g.connection.closed.Done():
			return g.stopError(errClosed)
		case <-ctx.Done():
			return g.stopError(ctx.Err())
		}
	}
	return g.destroy(ctx)
}

func (g *Guest) ask() error {
	s, err := g.connection.conn()
	if err != nil {
		return err
	}
	return s.shutdown(g.uuid)
}

// destroy tries to destroy the guest until it has ended. The daemon may be away, and an emulator that waits for a disk
// cannot be killed until the disk answers.
func (g *Guest) destroy(ctx context.Context) error {
	for {
		if err := g.destroyOnce(); err != nil {
			g.complain("destroy the guest", err)
		}
		select {
		case <-time.After(lastRetry):
		case <-g.ended:
			return nil
		case <-g.connection.closed.Done():
			return g.stopError(errClosed)
		case <-ctx.Done():
			return g.stopError(ctx.Err())
		}
	}
}

// complain logs why something that will be tried again did not succeed, unless that is known: a lost connection is logged
// once where it is lost, and a guest that has ended meanwhile is what was wanted.
func (g *Guest) complain(what string, err error) {
	if !errors.Is(err, errLost) && !errors.Is(err, errGone) {
		g.connection.log.Warn(what, zap.String("domain", g.name), zap.Error(err))
	}
}

func (g *Guest) destroyOnce() error {
	s, err := g.connection.conn()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.destroying = true
	g.mu.Unlock()
	return s.destroy(g.uuid)
}

func (g *Guest) crashed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state == GuestCrashed
}

func (g *Guest) stopError(err error) error {
	return fmt.Errorf("stop domain %q: %w", g.name, err)
}
