package reservation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/durable"
)

// This file is the file that keeps a state where the device does not: JSON, with a version of its own. It is emptied when the state is not to
// persist. Version 1, of NVMe hosts alone, is read as well.

// keptFile is the file.
type keptFile struct {
	Version     int              `json:"version"`
	UUID        uuid.UUID        `json:"uuid"` // of the namespace
	Generation  uint32           `json:"generation"`
	Type        Type             `json:"type"`
	PTPL        bool             `json:"ptpl"`
	Registrants []keptRegistrant `json:"registrants"`
}

type keptRegistrant struct {
	Host      *uuid.UUID `json:"host,omitempty"`
	Initiator string     `json:"initiator,omitempty"`
	Target    string     `json:"target,omitempty"`
	Port      uint16     `json:"port,omitempty"`
	Key       uint64     `json:"key"`
	Holder    bool       `json:"holder,omitempty"` // alone
}

type keptFile1 struct {
	Generation  uint32   `json:"generation"`
	Type        Type     `json:"type"`
	Holder      [16]byte `json:"holder"`
	PTPL        bool     `json:"ptpl"`
	Registrants []struct {
		Host [16]byte `json:"host"`
		Key  uint64   `json:"key"`
	} `json:"registrants"`
}

// writeFile makes a state durable in a file.
func writeFile(path string, id uuid.UUID, s *State) error {
	f := keptFile{Version: version, UUID: id, Generation: s.Generation, Type: s.Type, PTPL: s.PTPL}
	if !s.PTPL {
		f = keptFile{Version: version, UUID: id}
		s = &State{}
	}
	for _, g := range s.Registrants {
		k := keptRegistrant{Initiator: g.Initiator, Target: g.Target, Port: g.Port, Key: g.Key, Holder: s.Type != None && !s.Type.All() && g.Identity == s.Holder}
		if !g.IsNexus() {
			h := uuid.UUID(g.Host)
			k.Host = &h
		}
		f.Registrants = append(f.Registrants, k)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = durable.Replace(path, b)
	}
	if err != nil {
		return fmt.Errorf("keeping reservations in %s: %w", path, err)
	}
	return nil
}

// readFile reads what a file keeps; none, and one without anything in it, is an empty state.
func readFile(path string, id uuid.UUID) (*State, error) {
	fail := func(err error) (*State, error) {
		return nil, fmt.Errorf("reading reservations from %s: %w", path, err)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return &State{}, nil
	}
	var head struct {
		Version int       `json:"version"`
		UUID    uuid.UUID `json:"uuid"`
	}
	if err == nil {
		err = json.Unmarshal(b, &head)
	}
	switch {
	case err != nil:
		return fail(err)
	case head.Version != 1 && head.Version != version:
		return fail(fmt.Errorf("%w: version %d, this build knows %d", bdev.ErrInvalid, head.Version, version))
	case head.UUID != id:
		return fail(fmt.Errorf("%w: they are of namespace %s, not %s; give this one a file of its own", bdev.ErrInvalid, head.UUID, id))
	}
	s := &State{}
	if head.Version == 1 {
		err = s.readFile1(b)
	} else {
		err = s.readFile(b)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return fail(err)
	}
	return s, nil
}

func (s *State) readFile(b []byte) error {
	var f keptFile
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	s.Generation, s.Type, s.PTPL = f.Generation, f.Type, f.PTPL
	for _, k := range f.Registrants {
		g := Registrant{Nexus(k.Initiator, k.Target), k.Key, k.Port}
		if k.Host != nil {
			g.Host = *k.Host
		}
		if k.Holder {
			s.Holder = g.Identity
		}
		s.Registrants = append(s.Registrants, g)
	}
	return nil
}

func (s *State) readFile1(b []byte) error {
	var f keptFile1
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	s.Generation, s.Type, s.PTPL, s.Holder = f.Generation, f.Type, f.PTPL, Host(f.Holder)
	for _, k := range f.Registrants {
		s.Registrants = append(s.Registrants, Registrant{Identity: Host(k.Host), Key: k.Key})
	}
	return nil
}
