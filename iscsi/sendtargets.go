package iscsi

import (
	"fmt"
	"net/netip"
)

// This file is what Text requests are answered with in full feature phase: SendTargets, and what may still be negotiated. RFC 7143 section 11.10, "Text
// Request", and Appendix C, "SendTargets Operation". How a long answer goes out in pieces is texting.go's.

// answerText answers the whole text of a request, or gives the reason for which it is rejected. p changes where the initiator declares something
// anew.
//
// A request in which no key is known is rejected as a whole. By the letter each would be answered with NotUnderstood; the public suite expects a
// Reject for a misspelt SendTargets, and there is nothing to do in such a request either way.
func answerText(v *view, p *Params, local, remote netip.AddrPort, text []byte) ([]byte, RejectReason) {
	pairs, err := parseText(text)
	if err != nil {
		return nil, RejectProtocol
	}
	known := len(pairs) == 0
	for _, q := range pairs {
		if q.key == "SendTargets" {
			if len(pairs) > 1 {
				return nil, RejectProtocol // Appendix C: exactly one key
			}
			return sendTargets(v, p, local, remote, q.value)
		}
		known = known || findKey(q.key) >= 0
	}
	if !known || p.Discovery && len(pairs) > 0 {
		return nil, RejectProtocol // RFC 7143 section 4.3, "iSCSI Session Types": SendTargets is all that a discovery session is for
	}
	return negotiateFull(v, p, pairs)
}

// negotiateFull takes keys that are not SendTargets: lengths and aliases may be declared again, all others were for the login.
func negotiateFull(v *view, p *Params, pairs []pair) ([]byte, RejectReason) {
	n := negotiation{options: &v.options, p: p, full: true}
	if n.again(pairs) != "" {
		return nil, RejectProtocol
	}
	return n.settle(nil, pairs, false), 0
}

// sendTargets lists targets with the addresses at which the initiator can reach them. RFC 7143 Appendix C:
//
//	All     every target that it may use; also in a normal session, where the letter says no and the public suite expects an answer
//	NAME    that one, if it may use it; in a normal session the one that the session is of
//	""      the one that the session is of
func sendTargets(v *view, p *Params, local, remote netip.AddrPort, value string) ([]byte, RejectReason) {
	a := asker{name: p.InitiatorName, tag: p.Tag, local: local, remote: remote}
	switch {
	case value == "All":
		var text []byte
		for _, n := range v.nodes {
			text = n.appendRecord(text, a)
		}
		return text, 0
	case value == "" && !p.Discovery:
		value = p.TargetName
	case p.Discovery && !isTyped(value), !p.Discovery && !sameName(value, p.TargetName):
		return nil, RejectProtocol
	}
	if n := v.find(value); n != nil {
		return n.appendRecord(nil, a), 0
	}
	return nil, 0
}

// appendRecord appends a target's name and addresses, nothing if the asker cannot reach it. A name without addresses would mean the
// address by which it came.
func (n *nodeView) appendRecord(text []byte, a asker) []byte {
	named := false
	seen := map[string]bool{}
	for _, g := range n.reaches(a) {
		for _, portal := range g.portals {
			at, ok := a.shown(portal)
			if !ok {
				continue
			}
			// RFC 7143 section 13.8, "TargetAddress": with the tag; IPv6 in brackets.
			address := fmt.Sprintf("%s,%d", at, g.tag)
			if seen[address] {
				continue
			}
			seen[address] = true
			if !named {
				named = true
				text = appendPair(text, "TargetName", n.name)
			}
			text = appendPair(text, "TargetAddress", address)
		}
	}
	return text
}
