package iscsi

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// FuzzLogin plays requests out of bytes: the first chooses the rule of authentication, then each request is two bytes of flags and stages, two
// of the length of its text, and the text. $PROOF in it becomes the response to the challenge that was given last, if there was one.
//
// Whatever comes: nothing panics, no answer is longer than it may be, nothing is kept beyond its limit, a login that was refused stays refused,
// and where a proof is required nobody enters, and nobody hears the target's proof, without one.
func FuzzLogin(f *testing.F) {
	request := func(transit, more bool, csg, nsg Stage, kv ...string) []byte {
		text := textOf(kv...)
		flags := loginFlags(transit, more, csg, nsg)
		return append([]byte{flags, 0, byte(len(text) >> 8), byte(len(text))}, text...)
	}
	who := []string{asHost, atTarget}
	long := append(who[:2:2], "MaxRecvDataSegmentLength=512")
	for i := range 40 {
		long = append(long, fmt.Sprintf("X-com.example.number%02d=1", i))
	}
	method := append(who[:2:2], "AuthMethod=CHAP,None")
	for rule := range byte(4) {
		for _, requests := range [][][]byte{
			{request(true, false, op, ffp, who...)},
			{request(false, false, op, ffp, who...), request(true, false, op, ffp)},
			{request(true, false, sec, ffp, who...)},
			{request(true, false, sec, op, who...), request(true, false, op, ffp)},
			{request(false, false, sec, op, long...), request(true, false, sec, ffp), request(true, false, sec, ffp), request(true, false, sec, ffp)},
			{request(false, true, op, op, who...), request(true, false, op, ffp)},
			{request(true, false, op, ffp, asHost, "SessionType=Discovery", "X-a=b", "MaxRecvDataSegmentLength=512")},
			{request(true, false, sec, op, append(who[:2:2], "AuthMethod=None")...), request(true, false, op, ffp)},
			{request(true, false, sec, op, method...), request(true, false, sec, op), request(true, false, op, ffp)},
			{request(true, false, sec, op, method...), request(false, false, sec, sec, "CHAP_A=5"), request(true, false, sec, op), request(true, false, op, ffp)},
			{request(true, false, sec, op, method...), request(false, false, sec, sec, "CHAP_A=7"), request(true, false, sec, op, "CHAP_N=alice", "CHAP_R=$PROOF"),
				request(true, false, op, ffp)},
			{request(true, false, sec, op, method...), request(false, false, sec, sec, "CHAP_A=5"),
				request(true, false, sec, op, "CHAP_N=alice", "CHAP_R=$PROOF", "CHAP_I=1", "CHAP_C=0xa5a5"), request(true, false, op, ffp)},
			{request(true, false, sec, op, method...), request(false, false, sec, sec, "CHAP_A=5"),
				request(true, false, sec, op, "CHAP_N=alice", "CHAP_R=0x00112233445566778899aabbccddeeff", "CHAP_I=1", "CHAP_C=0xa5a5"), request(true, false, op, ffp)},
		} {
			f.Add(append([]byte{rule}, bytes.Join(requests, nil)...))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		rule := [4]Auth{{}, {Group: 1}, {Require: true, Group: 1}, {Require: true, Mutual: true, Group: 1}}[in[0]%4]
		in = in[1:]
		v := testView()
		secret := Secret{User: "alice", Secret: rand.Text(), MutualUser: "target1", MutualSecret: rand.Text()} // no input knows it
		v.secrets = map[int][]Secret{1: {secret}}
		v.discovery = rule
		for _, n := range v.nodes {
			n.auth = rule
		}
		x := newLoginHost(v, 1)
		var algorithm, identifier, challenge string
		proved := false
		for len(in) >= 4 && x.state != loginEnters {
			flags, n := in[0], int(in[2])<<8|int(in[3])
			x.h.VersionMin, x.h.TSIH = in[1]&1, TSIH(in[1]>>7)
			text := in[4:min(4+n, len(in))]
			in = in[4+len(text):]
			if challenge != "" && bytes.Contains(text, []byte("$PROOF")) {
				proof := "0x" + hex.EncodeToString(proofOf(algorithm, identifier, secret.Secret, challenge))
				text = bytes.ReplaceAll(text, []byte("$PROOF"), []byte(proof))
				proved = true
			}
			x.h.Transit, x.h.Continue = flags&flagFinal != 0, flags&flagContinue != 0
			x.h.CSG, x.h.NSG = Stage(flags>>csgShift&stageMask), Stage(flags&stageMask)
			before, status := x.state, x.resp.Status
			x.request(text)
			switch {
			case before == loginRefused && (x.state != loginRefused || x.resp.Status != status || x.raw != ""):
				t.Fatalf("a login that was refused (%v): %v", status, x)
			case (x.state == loginRefused) != (x.resp.Status != LoginSuccess), x.resp.Transit && x.resp.Continue:
				t.Fatalf("%v does not fit", x)
			case len(x.raw) > segmentBytesDefault || len(x.l.text) > loginTextMax || x.l.requests > loginRequestsMax+1:
				t.Fatalf("beyond a limit: answer %d, text %d, requests %d", len(x.raw), len(x.l.text), x.l.requests)
			case x.state == loginEnters && rule.Require && !proved:
				t.Fatal("it enters without a proof")
			case strings.Contains(x.raw, "CHAP_R=0x") && !proved:
				t.Fatal("the target proves itself to one that did not")
			case strings.Contains(x.raw, secret.Secret) || strings.Contains(x.raw, secret.MutualSecret) || strings.Contains(x.l.why, secret.Secret):
				t.Fatal("a secret is told")
			}
			pairs := pairsOf(strings.Split(strings.TrimSuffix(x.raw, "\x00"), "\x00")...)
			if c := valueOf(pairs, "CHAP_C"); c != "" {
				algorithm, identifier, challenge = valueOf(pairs, "CHAP_A"), valueOf(pairs, "CHAP_I"), c
			}
		}
		if p := x.l.params; x.state == loginEnters && (p.FirstBurst > p.MaxBurst || p.MaxBurst < lengthMin || p.SendBytesMax < lengthMin || p.TSIH == 0 ||
			p.MaxOutstandingR2T != 1 || p.InitiatorName == "" || !p.Discovery && (p.TargetName == "" || x.l.node == nil)) {
			t.Fatalf("it enters with %+v", p)
		}
	})
}

// FuzzTextRequest: whatever is asked in full feature phase, the answer has keys that were asked for or are of SendTargets, and no wildcard.
func FuzzTextRequest(f *testing.F) {
	for _, s := range []string{"SendTargets=All", "SendTargets=", "SendTargets=" + testTarget, "MaxRecvDataSegmentLength=512", "X-a=b", "HeaderDigest=None", "CHAP_A=5", "InitiatorName=x"} {
		f.Add(true, textOf(s))
		f.Add(false, textOf(s))
	}
	f.Fuzz(func(t *testing.T, discovery bool, text []byte) {
		p := defaultParams()
		p.InitiatorName, p.Tag, p.Discovery = testInitiator, 1, discovery
		if !discovery {
			p.TargetName = testTarget
		}
		before := p
		answer, why := answerText(testView(), &p, testLocal, testRemote, text)
		if why != 0 && (len(answer) > 0 || why != RejectProtocol) {
			t.Fatalf("%v with %q", why, answer)
		}
		for _, s := range bytes.Split(answer, []byte{0}) {
			key, value, _ := strings.Cut(string(s), "=")
			switch {
			case key == "", bytes.Contains(text, []byte("SendTargets=")) && (key == "TargetName" || key == "TargetAddress"):
			case !bytes.Contains(text, []byte(key+"=")) || value != answerReject && value != answerNotUnderstood:
				t.Fatalf("nobody asked for %s", s)
			}
		}
		if bytes.Contains(answer, []byte("=0.0.0.0")) || bytes.Contains(answer, []byte("=[::]:")) {
			t.Fatal("a wildcard leaves the process")
		}
		before.SendBytesMax, before.InitiatorAlias = p.SendBytesMax, p.InitiatorAlias
		if p != before || p.SendBytesMax < lengthMin || p.SendBytesMax > lengthMax {
			t.Fatalf("it left %+v", p)
		}
	})
}
