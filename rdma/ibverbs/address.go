//go:build cgo

package ibverbs

// #include "shim.h"
import "C"

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// toC is an address as C takes it. A zone is the name of a network interface, or its number.
func toC(a netip.AddrPort) (C.struct_s_address, error) {
	ip := a.Addr().Unmap()
	c := C.struct_s_address{port: C.uint16_t(a.Port())}
	var b []byte
	switch {
	case ip.Is4():
		c.family = 4
		b = ip.AsSlice()
	case ip.Is6():
		c.family = 6
		b = ip.AsSlice()
	default:
		return c, fmt.Errorf("it is not an IP address")
	}
	for i := range b {
		c.ip[i] = C.uint8_t(b[i])
	}
	if z := ip.Zone(); z != "" {
		if n, err := strconv.ParseUint(z, 10, 32); err == nil {
			c.zone = C.uint32_t(n)
		} else if i, err := net.InterfaceByName(z); err == nil {
			c.zone = C.uint32_t(i.Index)
		} else {
			return c, fmt.Errorf("its zone %q: %w", z, err)
		}
	}
	return c, nil
}

func fromC(c C.struct_s_address) netip.AddrPort {
	var b [16]byte
	for i := range b {
		b[i] = byte(c.ip[i])
	}
	var ip netip.Addr
	switch c.family {
	case 4:
		ip = netip.AddrFrom4([4]byte(b[:4]))
	case 6:
		ip = netip.AddrFrom16(b)
		if c.zone != 0 && ip.IsLinkLocalUnicast() {
			zone := strconv.FormatUint(uint64(c.zone), 10)
			if i, err := net.InterfaceByIndex(int(c.zone)); err == nil {
				zone = i.Name
			}
			ip = ip.WithZone(zone)
		}
	default:
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, uint16(c.port))
}
