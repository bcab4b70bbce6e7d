package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file asks a discovery service what there is. Base Specification 2.0, "Discovery Log Page": the page is read in pieces,
// and from the start again if its generation counter moved meanwhile.

// Bounds of a discovery.
const (
	discoveryTriesMax   = 10
	discoveryEntriesMax = 1 << 16
	discoveryPiece      = 4 // entries read at once
)

// Discover lists what the discovery service at o's address shows this host: subsystems, referrals to other services, and the
// service itself. o.SubNQN may name the service, if it has a name of its own.
func Discover(ctx context.Context, g *reactor.Group, o Options, log *slog.Logger) ([]nvmf.DiscoveryEntry, error) {
	if o.Name == "" {
		o.Name = "discovery"
	}
	if o.SubNQN == "" {
		o.SubNQN = nvmf.DiscoveryNQN
	}
	o.KeepAlive = 0 // the connection ends when the page is read
	addr, err := o.complete()
	if err != nil {
		return nil, err
	}
	a := newAssociation(&o, log, addr, g, 0, 0)
	defer a.close()
	if err = a.connectAdmin(ctx); err == nil {
		a.id, err = a.identify(ctx)
	}
	var entries []nvmf.DiscoveryEntry
	if err == nil {
		entries, err = a.discover(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the discovery service at %v: %w", addr, err)
	}
	return entries, nil
}

// discover reads the page until all of it is of one generation.
func (a *association) discover(ctx context.Context) ([]nvmf.DiscoveryEntry, error) {
	for range discoveryTriesMax {
		entries, moved, err := a.discoverOnce(ctx)
		var refused *StatusError
		if errors.As(err, &refused) && refused.Status.Code() == nvmf.StatusDiscoveryRestart {
			continue
		}
		if err != nil || !moved {
			return entries, err
		}
	}
	return nil, fmt.Errorf("its page changed %d times while it was read", discoveryTriesMax)
}

func (a *association) discoverOnce(ctx context.Context) (entries []nvmf.DiscoveryEntry, moved bool, err error) {
	first, err := a.discoveryHeader(ctx)
	if err != nil {
		return nil, false, err
	}
	if first.NUMREC > discoveryEntriesMax {
		return nil, false, fmt.Errorf("it lists %d entries, more than %d", first.NUMREC, discoveryEntriesMax)
	}
	for n := uint64(0); n < first.NUMREC; n += discoveryPiece {
		count := min(first.NUMREC-n, discoveryPiece)
		b := make([]byte, count*nvmf.DiscoveryEntryBytes)
		if err := a.readPage(ctx, nvmf.LIDDiscovery, nvmf.DiscoveryHeaderBytes+n*nvmf.DiscoveryEntryBytes, b); err != nil {
			return nil, false, err
		}
		for ; len(b) > 0; b = b[nvmf.DiscoveryEntryBytes:] {
			e, _ := nvmf.DecodeDiscoveryEntry(b)
			entries = append(entries, e)
		}
	}
	last, err := a.discoveryHeader(ctx)
	return entries, last.GENCTR != first.GENCTR, err
}

func (a *association) discoveryHeader(ctx context.Context) (nvmf.DiscoveryHeader, error) {
	b := make([]byte, nvmf.DiscoveryHeaderBytes)
	if err := a.readPage(ctx, nvmf.LIDDiscovery, 0, b); err != nil {
		return nvmf.DiscoveryHeader{}, err
	}
	return nvmf.DecodeDiscoveryHeader(b)
}
