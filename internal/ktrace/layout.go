package ktrace

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// This file looks up what programs rely on: at which place a tracepoint has an argument, and where in a structure a member is.

// tracepoint is the arguments of one, as its programs get them: without the first, which belongs to the kernel.
type tracepoint struct {
	name string
	args []btf.Type
}

// findTracepoint looks for the first of several names, which followed each other over kernels.
func findTracepoint(types *btf.Spec, names ...string) (*tracepoint, error) {
	for _, name := range names {
		var t *btf.Typedef
		if err := types.TypeByName("btf_trace_"+name, &t); err != nil {
			continue
		}
		p, ok := t.Type.(*btf.Pointer)
		if !ok {
			continue
		}
		proto, ok := p.Target.(*btf.FuncProto)
		if !ok || len(proto.Params) == 0 {
			continue
		}
		tp := &tracepoint{name: name}
		for _, a := range proto.Params[1:] {
			tp.args = append(tp.args, btf.UnderlyingType(a.Type))
		}
		return tp, nil
	}
	return nil, fmt.Errorf("this kernel has no tracepoint %s", names[0])
}

// pointer checks that argument i points to a structure, to anything where name is "", and gives its offset in the program's context.
func (tp *tracepoint) pointer(i int, name string) (int16, error) {
	if i >= len(tp.args) {
		return 0, fmt.Errorf("the tracepoint %s has no argument %d in this kernel", tp.name, i)
	}
	p, ok := tp.args[i].(*btf.Pointer)
	if ok && name != "" {
		s, is := btf.UnderlyingType(p.Target).(*btf.Struct)
		ok = is && s.Name == name
	}
	if !ok {
		return 0, fmt.Errorf("argument %d of the tracepoint %s is %v in this kernel, not a pointer to %s", i, tp.name, tp.args[i], name)
	}
	return int16(8 * i), nil
}

// number checks that argument i is an integer of at most 8 bytes.
func (tp *tracepoint) number(i int) (int16, error) {
	if i >= len(tp.args) {
		return 0, fmt.Errorf("the tracepoint %s has no argument %d in this kernel", tp.name, i)
	}
	switch tp.args[i].(type) {
	case *btf.Int, *btf.Enum:
		return int16(8 * i), nil
	}
	return 0, fmt.Errorf("argument %d of the tracepoint %s is %v in this kernel, not a number", i, tp.name, tp.args[i])
}

// member gives where in a structure a member is, and checks its size.
func member(types *btf.Spec, structure, name string, bytes int) (int16, error) {
	var s *btf.Struct
	if err := types.TypeByName(structure, &s); err != nil {
		return 0, fmt.Errorf("this kernel tells nothing of struct %s: %w", structure, err)
	}
	off, t, err := inMembers(s.Members, name)
	if err != nil {
		return 0, fmt.Errorf("struct %s has no member %s in this kernel", structure, name)
	}
	if n, err := btf.Sizeof(t); err != nil || n != bytes || off > 1<<15-8 {
		return 0, fmt.Errorf("member %s of struct %s has %d bytes at %d in this kernel, not %d", name, structure, n, off, bytes)
	}
	return int16(off), nil
}

var errNoMember = errors.New("no such member")

// inMembers looks for a member, also in structures and unions without a name.
func inMembers(members []btf.Member, name string) (int, btf.Type, error) {
	for _, m := range members {
		if m.Name == name && m.BitfieldSize == 0 {
			return int(m.Offset.Bytes()), m.Type, nil
		}
		if m.Name != "" {
			continue
		}
		var within []btf.Member
		switch t := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			within = t.Members
		case *btf.Union:
			within = t.Members
		}
		if off, t, err := inMembers(within, name); err == nil {
			return int(m.Offset.Bytes()) + off, t, nil
		}
	}
	return 0, nil, errNoMember
}
