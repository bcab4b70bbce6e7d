package iscsi

import (
	"fmt"
	"strings"
	"testing"
)

// pairsOf makes pairs of KEY=VALUE.
func pairsOf(kv ...string) []pair {
	var ps []pair
	for _, s := range kv {
		key, value, _ := strings.Cut(s, "=")
		ps = append(ps, pair{key, value})
	}
	return ps
}

// textOf makes the text of a request.
func textOf(kv ...string) []byte {
	var b []byte
	for _, p := range pairsOf(kv...) {
		b = appendPair(b, p.key, p.value)
	}
	return b
}

// showText shows one.
func showText(b []byte) string {
	return strings.ReplaceAll(strings.TrimSuffix(string(b), "\x00"), "\x00", " ")
}

func testOptions() Options {
	o := DefaultOptions()
	o.FirstBurstLength = 65536
	return o
}

// TestKeys: RFC 7143 section 13, each key with its result function, its bounds, and what it leaves.
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		in, want string
		params   func(p *Params) string // what has to follow
		then     string
	}{
		{in: "HeaderDigest=None", want: "HeaderDigest=None", params: digestsOf, then: "0"},
		{in: "HeaderDigest=CRC32C", want: "HeaderDigest=CRC32C", params: digestsOf, then: "1"},
		{in: "HeaderDigest=CRC32C,None", want: "HeaderDigest=CRC32C", params: digestsOf, then: "1"},
		{in: "HeaderDigest=None,CRC32C", want: "HeaderDigest=None", params: digestsOf, then: "0"},
		{in: "HeaderDigest=Y-com.example.sha,CRC32C,None", want: "HeaderDigest=CRC32C", params: digestsOf, then: "1"},
		{in: "HeaderDigest=Y-com.example.sha", want: "HeaderDigest=Reject", params: digestsOf, then: "0"},
		{in: "HeaderDigest=crc32c", want: "HeaderDigest=Reject", params: digestsOf, then: "0"},
		{in: "HeaderDigest=", want: "HeaderDigest=Reject", params: digestsOf, then: "0"},
		{in: "DataDigest=CRC32C,None", want: "DataDigest=CRC32C", params: digestsOf, then: "2"},
		{in: "DataDigest=None", want: "DataDigest=None", params: digestsOf, then: "0"},

		{in: "MaxConnections=8", want: "MaxConnections=1"},
		{in: "MaxConnections=1", want: "MaxConnections=1"},
		{in: "MaxConnections=0", want: "MaxConnections=Reject"},
		{in: "MaxConnections=65536", want: "MaxConnections=Reject"},
		{in: "MaxConnections=", want: "MaxConnections=Reject"},

		{in: "InitialR2T=Yes", want: "InitialR2T=Yes", params: initialR2TOf, then: "true"},
		{in: "InitialR2T=No", want: "InitialR2T=No", params: initialR2TOf, then: "false"},
		{in: "InitialR2T=no", want: "InitialR2T=Reject", params: initialR2TOf, then: "true"},
		{in: "ImmediateData=Yes", want: "ImmediateData=Yes", params: immediateOf, then: "true"},
		{in: "ImmediateData=No", want: "ImmediateData=No", params: immediateOf, then: "false"},
		{in: "ImmediateData=1", want: "ImmediateData=Reject", params: immediateOf, then: "true"},

		{in: "MaxRecvDataSegmentLength=65536", want: "", params: sendOf, then: "65536"},
		{in: "MaxRecvDataSegmentLength=0x10000", want: "", params: sendOf, then: "65536"},
		{in: "MaxRecvDataSegmentLength=512", want: "", params: sendOf, then: "512"},
		{in: "MaxRecvDataSegmentLength=16777215", want: "", params: sendOf, then: "16777215"},
		{in: "MaxRecvDataSegmentLength=511", want: "MaxRecvDataSegmentLength=Reject", params: sendOf, then: "8192"},
		{in: "MaxRecvDataSegmentLength=16777216", want: "MaxRecvDataSegmentLength=Reject", params: sendOf, then: "8192"},
		{in: "MaxRecvDataSegmentLength=4294967808", want: "MaxRecvDataSegmentLength=Reject", params: sendOf, then: "8192"},

		{in: "MaxBurstLength=16776192", want: "MaxBurstLength=1048576", params: burstsOf, then: "1048576 65536"},
		{in: "MaxBurstLength=262144", want: "MaxBurstLength=262144", params: burstsOf, then: "262144 65536"},
		{in: "MaxBurstLength=100", want: "MaxBurstLength=Reject", params: burstsOf, then: "262144 65536"},
		{in: "FirstBurstLength=262144", want: "FirstBurstLength=65536", params: burstsOf, then: "262144 65536"},
		{in: "FirstBurstLength=4096", want: "FirstBurstLength=4096", params: burstsOf, then: "262144 4096"},
		{in: "FirstBurstLength=0", want: "FirstBurstLength=Reject", params: burstsOf, then: "262144 65536"},
		{in: "MaxBurstLength=8192 FirstBurstLength=65536", want: "MaxBurstLength=8192 FirstBurstLength=8192", params: burstsOf, then: "8192 8192"},
		{in: "FirstBurstLength=65536 MaxBurstLength=8192", want: "FirstBurstLength=8192 MaxBurstLength=8192", params: burstsOf, then: "8192 8192"},

		{in: "DefaultTime2Wait=0", want: "DefaultTime2Wait=2"},
		{in: "DefaultTime2Wait=5", want: "DefaultTime2Wait=5"},
		{in: "DefaultTime2Wait=3601", want: "DefaultTime2Wait=Reject"},
		{in: "DefaultTime2Retain=60", want: "DefaultTime2Retain=0"},
		{in: "DefaultTime2Retain=0", want: "DefaultTime2Retain=0"},
		{in: "DefaultTime2Retain=-1", want: "DefaultTime2Retain=Reject"},

		{in: "MaxOutstandingR2T=16", want: "MaxOutstandingR2T=1"},
		{in: "MaxOutstandingR2T=0", want: "MaxOutstandingR2T=Reject"},
		{in: "DataPDUInOrder=No", want: "DataPDUInOrder=Yes"},
		{in: "DataPDUInOrder=Yes", want: "DataPDUInOrder=Yes"},
		{in: "DataPDUInOrder=Maybe", want: "DataPDUInOrder=Reject"},
		{in: "DataSequenceInOrder=No", want: "DataSequenceInOrder=Yes"},
		{in: "ErrorRecoveryLevel=2", want: "ErrorRecoveryLevel=0"},
		{in: "ErrorRecoveryLevel=3", want: "ErrorRecoveryLevel=Reject"},
		{in: "TaskReporting=FastAbort,ResponseFence,RFC3720", want: "TaskReporting=RFC3720"},
		{in: "TaskReporting=FastAbort", want: "TaskReporting=Reject"},
		{in: "iSCSIProtocolLevel=2", want: "iSCSIProtocolLevel=1"},
		{in: "iSCSIProtocolLevel=0", want: "iSCSIProtocolLevel=0"},
		{in: "iSCSIProtocolLevel=32", want: "iSCSIProtocolLevel=Reject"},

		{in: "IFMarker=No OFMarker=Yes IFMarkInt=2048~65535 OFMarkInt=1", want: "IFMarker=Reject OFMarker=Reject IFMarkInt=Reject OFMarkInt=Reject"},
		{in: "X-com.example.fast=Yes", want: "X-com.example.fast=NotUnderstood"},
		{in: "X#NodeArchitecture=x86_64", want: "X#NodeArchitecture=NotUnderstood"},
		{in: "maxconnections=1", want: "maxconnections=NotUnderstood"},
		{in: "RDMAExtensions=Yes", want: "RDMAExtensions=NotUnderstood"},
		{in: "TargetAlias=mine TargetAddress=192.0.2.1 TargetPortalGroupTag=1", want: "TargetAlias=Reject TargetAddress=Reject TargetPortalGroupTag=Reject"},
		{in: "SendTargets=All", want: "SendTargets=Reject"},
		{in: "AuthMethod=None", want: "AuthMethod=Reject"}, // behind the stage for it
		{in: "CHAP_A=5", want: "CHAP_A=Reject"},
		{in: "InitiatorAlias=a", want: ""},
		// Answers to questions that nobody asked are not answered in turn.
		{in: "MaxConnections=Irrelevant X-com.example.a=NotUnderstood InitialR2T=Reject", want: ""},
		// In the order of the questions.
		{in: "ErrorRecoveryLevel=0 X-a=1 HeaderDigest=None FirstBurstLength=512 MaxConnections=1",
			want: "ErrorRecoveryLevel=0 X-a=NotUnderstood HeaderDigest=None FirstBurstLength=512 MaxConnections=1"},
	} {
		t.Run(c.in, func(t *testing.T) {
			o, p := testOptions(), defaultParams()
			n := negotiation{options: &o, p: &p}
			got := showText(n.settle(nil, pairsOf(strings.Fields(c.in)...), false))
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			p.FirstBurst = min(p.FirstBurst, p.MaxBurst) // the login does at its end
			if c.params != nil && c.params(&p) != c.then {
				t.Errorf("leaves %s, want %s", c.params(&p), c.then)
			}
		})
	}
}

func digestsOf(p *Params) string    { return fmt.Sprint(uint8(p.Digests)) }
func initialR2TOf(p *Params) string { return fmt.Sprint(p.InitialR2T) }
func immediateOf(p *Params) string  { return fmt.Sprint(p.ImmediateData) }
func sendOf(p *Params) string       { return fmt.Sprint(p.SendBytesMax) }
func burstsOf(p *Params) string     { return fmt.Sprint(p.MaxBurst, p.FirstBurst) }

// TestKeysInDiscovery: what says nothing of a discovery session is Irrelevant, by the lists "Irrelevant when" of RFC 7143 section 13.
func TestKeysInDiscovery(t *testing.T) {
	o, p := testOptions(), defaultParams()
	p.Discovery = true
	n := negotiation{options: &o, p: &p}
	in := []string{"HeaderDigest=CRC32C", "DataDigest=None", "MaxRecvDataSegmentLength=32768", "MaxConnections=1", "InitialR2T=No", "ImmediateData=No",
		"MaxBurstLength=512", "FirstBurstLength=512", "DefaultTime2Wait=0", "DefaultTime2Retain=0", "MaxOutstandingR2T=1", "DataPDUInOrder=Yes",
		"DataSequenceInOrder=Yes", "ErrorRecoveryLevel=0", "TaskReporting=RFC3720", "iSCSIProtocolLevel=1", "IFMarker=No", "X-a=b"}
	const irrelevant = "=Irrelevant "
	want := "HeaderDigest=CRC32C DataDigest=None MaxConnections" + irrelevant + "InitialR2T" + irrelevant + "ImmediateData" + irrelevant + "MaxBurstLength" + irrelevant +
		"FirstBurstLength" + irrelevant + "DefaultTime2Wait=2 DefaultTime2Retain=0 MaxOutstandingR2T" + irrelevant + "DataPDUInOrder" + irrelevant +
		"DataSequenceInOrder" + irrelevant + "ErrorRecoveryLevel=0 TaskReporting" + irrelevant + "iSCSIProtocolLevel" + irrelevant + "IFMarker=Reject X-a=NotUnderstood"
	if got := showText(n.settle(nil, pairsOf(in...), false)); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	if p.MaxBurst != maxBurstDefault || !p.ImmediateData || p.SendBytesMax != 32768 {
		t.Errorf("left %+v", p)
	}
}

// TestKeysByOptions: what the configuration says of our values.
func TestKeysByOptions(t *testing.T) {
	for _, c := range []struct {
		name     string
		set      func(o *Options, n *negotiation)
		in, want string
	}{
		{"immediate data off", func(o *Options, _ *negotiation) { o.ImmediateData = false }, "ImmediateData=Yes", "ImmediateData=No"},
		{"a smaller first burst", func(o *Options, _ *negotiation) { o.FirstBurstLength = 8192 }, "FirstBurstLength=65536", "FirstBurstLength=8192"},
		{"a first burst of nothing", func(o *Options, _ *negotiation) { o.FirstBurstLength = 0 }, "FirstBurstLength=262144", "FirstBurstLength=65536"},
		{"a first burst below what there is", func(o *Options, _ *negotiation) { o.FirstBurstLength = 1 }, "FirstBurstLength=65536", "FirstBurstLength=512"},
		{"a longer wait", func(o *Options, _ *negotiation) { o.DefaultTime2Wait = 30 }, "DefaultTime2Wait=2", "DefaultTime2Wait=30"},
		{"retaining is not done", func(o *Options, _ *negotiation) { o.DefaultTime2Retain = 20 }, "DefaultTime2Retain=20", "DefaultTime2Retain=0"},
		{"more connections are not taken", func(o *Options, _ *negotiation) { o.MaxConnections = 2 }, "MaxConnections=4", "MaxConnections=1"},
		{"a digest is required", func(_ *Options, n *negotiation) { n.required = HeaderDigests }, "HeaderDigest=None,CRC32C DataDigest=None,CRC32C", "HeaderDigest=CRC32C DataDigest=None"},
		{"a digest is required and not offered", func(_ *Options, n *negotiation) { n.required = DataDigests }, "DataDigest=None", "DataDigest=Reject"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, p := testOptions(), defaultParams()
			n := negotiation{options: &o, p: &p}
			c.set(&o, &n)
			if got := showText(n.settle(nil, pairsOf(strings.Fields(c.in)...), false)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestKeysComeOnce: RFC 7143 section 6.3. Names and what a side takes may be said again.
func TestKeysComeOnce(t *testing.T) {
	for _, r := range keyRules {
		o, p := testOptions(), defaultParams()
		n := negotiation{options: &o, p: &p}
		if key := n.again(pairsOf(r.key + "=1")); key != "" {
			t.Errorf("%s is refused the first time", key)
		}
		if got := n.again(pairsOf(r.key + "=1")); (got != "") == r.again {
			t.Errorf("%s the second time: %q", r.key, got)
		}
	}
}

// TestKeysInFullFeaturePhase: only lengths and aliases may be declared again.
func TestKeysInFullFeaturePhase(t *testing.T) {
	v := &view{options: testOptions()}
	for _, r := range keyRules {
		p := defaultParams()
		before := p
		got, why := negotiateFull(v, &p, pairsOf(r.key+"=1024"))
		want := r.key + "=Reject"
		switch r.key {
		case "MaxRecvDataSegmentLength":
			want, before.SendBytesMax = "", 1024
		case "InitiatorAlias":
			want, before.InitiatorAlias = "", "1024"
		}
		if showText(got) != want || why != 0 || p != before {
			t.Errorf("%s: %q, %v, left %+v", r.key, showText(got), why, p)
		}
	}
}
