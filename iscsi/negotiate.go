package iscsi

import (
	"slices"
	"strconv"
	"strings"
)

// This file is the negotiation of keys: for each key of RFC 7143 section 13, "Login/Text Operational Text Keys", its result function and our value.
// Section 6.2, "Text Mode Negotiation":
//
//	declared    nobody answers
//	negotiated  the answer is the result: the first of the list that we take; of numbers the smaller or the larger; of Yes and No AND or OR
//	Reject      the value is none of the key's, or it is too late for the key, or never ours to hear; the value so far stays
//	Irrelevant  the key has no meaning in a discovery session
//	NotUnderstood  no key that we know
//
// Answers stand in the order of the questions. What an initiator does not ask for has its default.

// The answers that are no results. RFC 7143 section 6.2.
const (
	answerReject        = "Reject"
	answerIrrelevant    = "Irrelevant"
	answerNotUnderstood = "NotUnderstood"
)

// Our values, in bytes.
const (
	recvBytesOurs  = 262144  // MaxRecvDataSegmentLength, from the operational stage on
	maxBurstOurs   = 1048576 // MaxBurstLength
	firstBurstOurs = 65536   // FirstBurstLength, where the options say nothing
)

// Defaults and bounds of RFC 7143 section 13.
const (
	segmentBytesDefault = 8192      // MaxRecvDataSegmentLength; in a login what both sides take
	maxBurstDefault     = 262144    // MaxBurstLength
	firstBurstDefault   = 65536     // FirstBurstLength
	lengthMin           = 512       // of all three
	lengthMax           = 1<<24 - 1 // of all three
)

// defaultParams are what holds if nothing is negotiated.
func defaultParams() Params {
	return Params{
		SendBytesMax: segmentBytesDefault, RecvBytesMax: segmentBytesDefault, MaxBurst: maxBurstDefault, FirstBurst: firstBurstDefault,
		InitialR2T: true, ImmediateData: true, MaxOutstandingR2T: 1,
	}
}

// keyUse says when a key may come from an initiator.
type keyUse uint8

const (
	useLogin    keyUse = iota // in a login
	useAlways                 // later too
	useSecurity               // in the stage SecurityNegotiation; chap.go and login.go see to it
	useFull                   // in full feature phase only
	useNever                  // only targets send it
	useObsolete               // refused for ever
)

// keyRule is a key.
type keyRule struct {
	key   string
	use   keyUse
	again bool // it may come more than once
	// normal: it means nothing in a discovery session.
	normal bool
	// settle takes the value; the answer is "" if there is none to give.
	settle func(n *negotiation, value string) (answer string)
}

// keyRules are all keys. A negotiation notes by index which have come.
var keyRules = [...]keyRule{
	{key: "InitiatorName", use: useLogin, again: true, settle: (*negotiation).initiatorName},
	{key: "TargetName", use: useLogin, again: true, settle: (*negotiation).targetName},
	{key: "SessionType", use: useLogin, again: true, settle: (*negotiation).sessionType},
	{key: "InitiatorAlias", use: useAlways, again: true, settle: (*negotiation).initiatorAlias},
	{key: "HeaderDigest", use: useLogin, settle: (*negotiation).headerDigest},
	{key: "DataDigest", use: useLogin, settle: (*negotiation).dataDigest},
	{key: "MaxRecvDataSegmentLength", use: useAlways, again: true, settle: (*negotiation).maxRecvDataSegmentLength},
	{key: "MaxConnections", use: useLogin, normal: true, settle: (*negotiation).maxConnections},
	{key: "InitialR2T", use: useLogin, normal: true, settle: (*negotiation).initialR2T},
	{key: "ImmediateData", use: useLogin, normal: true, settle: (*negotiation).immediateData},
	{key: "MaxBurstLength", use: useLogin, normal: true, settle: (*negotiation).maxBurstLength},
	{key: firstBurstKey, use: useLogin, normal: true, settle: (*negotiation).firstBurstLength},
	{key: "DefaultTime2Wait", use: useLogin, settle: (*negotiation).defaultTime2Wait},
	{key: "DefaultTime2Retain", use: useLogin, settle: (*negotiation).defaultTime2Retain},
	{key: "MaxOutstandingR2T", use: useLogin, normal: true, settle: (*negotiation).maxOutstandingR2T},
	{key: "DataPDUInOrder", use: useLogin, normal: true, settle: (*negotiation).inOrder},
	{key: "DataSequenceInOrder", use: useLogin, normal: true, settle: (*negotiation).inOrder},
	{key: "ErrorRecoveryLevel", use: useLogin, settle: (*negotiation).errorRecoveryLevel},
	{key: "TaskReporting", use: useLogin, normal: true, settle: (*negotiation).taskReporting},
	{key: "iSCSIProtocolLevel", use: useLogin, normal: true, settle: (*negotiation).protocolLevel},
	{key: "AuthMethod", use: useSecurity},
	{key: "SendTargets", use: useFull},
	{key: "TargetAlias", use: useNever},
	{key: "TargetAddress", use: useNever},
	{key: "TargetPortalGroupTag", use: useNever},
	// RFC 7143 section 13.25, "Obsoleted Keys": they are answered with Reject, never with NotUnderstood.
	{key: "IFMarker", use: useObsolete},
	{key: "OFMarker", use: useObsolete},
	{key: "IFMarkInt", use: useObsolete},
	{key: "OFMarkInt", use: useObsolete},
}

const firstBurstKey = "FirstBurstLength"

var _ = uint(64 - len(keyRules)) // negotiation.asked has a bit for each

// findKey finds a key's place in keyRules, -1 if it is none.
func findKey(key string) int {
	return slices.IndexFunc(keyRules[:], func(r keyRule) bool { return r.key == key })
}

// negotiation is the state of a negotiation: of a login, or later of a Text request.
type negotiation struct {
	options  *Options
	p        *Params
	full     bool    // feature phase
	required Digests // without which the target takes nobody
	asked    uint64  // the keys that came, by index

	// Who the initiator says that it is, and what it wants; "" as long as it does not say.
	initiator, target, session string
}

// again names the key of pairs that has come before and may come once only, "" if there is none. What came is noted.
func (n *negotiation) again(pairs []pair) string {
	for _, p := range pairs {
		i := findKey(p.key)
		if i < 0 || isAnswer(p.value) {
			continue
		}
		if n.asked&(1<<i) != 0 && !keyRules[i].again {
			return p.key
		}
		n.asked |= 1 << i
	}
	return ""
}

// isAnswer reports whether a value is one of those that only answers have. We ask nothing that could be answered so; what comes with one is
// passed over, since an answer to it would be the next of an endless row. RFC 7143 section 6.2.
func isAnswer(value string) bool {
	return value == answerReject || value == answerIrrelevant || value == answerNotUnderstood
}

// settle takes the keys of a request and appends the answers to text. security says that the stage is SecurityNegotiation: then the keys of
// authentication are somebody else's.
func (n *negotiation) settle(text []byte, pairs []pair, security bool) []byte {
	answers := make([]string, len(pairs))
	// FirstBurstLength is never above MaxBurstLength (section 13.14), whichever comes first.
	for _, last := range [...]bool{false, true} {
		for i, p := range pairs {
			if (p.key == firstBurstKey) == last && !isAnswer(p.value) {
				answers[i] = n.answer(p, security)
			}
		}
	}
	for i, a := range answers {
		if a != "" {
			text = appendPair(text, pairs[i].key, a)
		}
	}
	return text
}

// answer takes one key.
func (n *negotiation) answer(p pair, security bool) string {
	if strings.HasPrefix(p.key, "CHAP_") || p.key == "AuthMethod" {
		if security {
			return ""
		}
		return answerReject
	}
	i := findKey(p.key)
	if i < 0 {
		return answerNotUnderstood
	}
	r := &keyRules[i]
	switch {
	case r.settle == nil, n.full && r.use != useAlways:
		return answerReject
	case n.p.Discovery && r.normal:
		return answerIrrelevant
	}
	return r.settle(n, p.value)
}

// The result functions. They report false for a value that is none of the key's.

// inRange reads a number of a key.
func inRange(value string, low, high uint64) (uint32, bool) {
	v, ok := parseNumber(value)
	return uint32(v), ok && v >= low && v <= high
}

// smaller is Minimum.
func smaller(value string, ours, low, high uint32) (uint32, bool) {
	v, ok := inRange(value, uint64(low), uint64(high))
	return min(v, ours), ok
}

// larger is Maximum.
func larger(value string, ours, low, high uint32) (uint32, bool) {
	v, ok := inRange(value, uint64(low), uint64(high))
	return max(v, ours), ok
}

// either is OR.
func either(value string, ours bool) (bool, bool) {
	v, ok := parseBool(value)
	return v || ours, ok
}

// both is AND.
func both(value string, ours bool) (bool, bool) {
	v, ok := parseBool(value)
	return v && ours, ok
}

// first is the first of the initiator's list that we take.
func first(value string, ours ...string) (string, bool) {
	for v := range strings.SplitSeq(value, ",") {
		if slices.Contains(ours, v) {
			return v, true
		}
	}
	return "", false
}

func numberAnswer(v uint32, ok bool) string {
	if !ok {
		return answerReject
	}
	return strconv.FormatUint(uint64(v), 10)
}

func boolAnswer(v, ok bool) string {
	switch {
	case !ok:
		return answerReject
	case v:
		return "Yes"
	}
	return "No"
}

func listAnswer(v string, ok bool) string {
	if !ok {
		return answerReject
	}
	return v
}

// The keys, by section of RFC 7143.

// 13.4 to 13.7 and 13.21: declared. What they say is judged by the login.

func (n *negotiation) initiatorName(value string) string { n.initiator = value; return "" }
func (n *negotiation) targetName(value string) string    { n.target = value; return "" }
func (n *negotiation) sessionType(value string) string   { n.session = value; return "" }

func (n *negotiation) initiatorAlias(value string) string {
	n.p.InitiatorAlias = value
	return ""
}

// 13.1, "HeaderDigest and DataDigest". They hold from the end of the login on.
func (n *negotiation) headerDigest(value string) string { return n.digest(value, HeaderDigests) }
func (n *negotiation) dataDigest(value string) string   { return n.digest(value, DataDigests) }

func (n *negotiation) digest(value string, which Digests) string {
	ours := []string{"CRC32C", "None"}
	if n.required&which != 0 {
		ours = ours[:1]
	}
	v, ok := first(value, ours...)
	if v == "CRC32C" {
		n.p.Digests |= which
	}
	return listAnswer(v, ok)
}

// 13.2, "MaxConnections": one.
func (n *negotiation) maxConnections(value string) string {
	return numberAnswer(smaller(value, 1, 1, 65535))
}

// 13.10, "InitialR2T": we do not insist on one.
func (n *negotiation) initialR2T(value string) string {
	v, ok := either(value, false)
	if ok {
		n.p.InitialR2T = v
	}
	return boolAnswer(v, ok)
}

// 13.11, "ImmediateData".
func (n *negotiation) immediateData(value string) string {
	v, ok := both(value, n.options.ImmediateData)
	if ok {
		n.p.ImmediateData = v
	}
	return boolAnswer(v, ok)
}

// 13.12, "MaxRecvDataSegmentLength": declared.
func (n *negotiation) maxRecvDataSegmentLength(value string) string {
	v, ok := inRange(value, lengthMin, lengthMax)
	if !ok {
		return answerReject
	}
	n.p.SendBytesMax = v
	return ""
}

// 13.13, "MaxBurstLength".
func (n *negotiation) maxBurstLength(value string) string {
	v, ok := smaller(value, maxBurstOurs, lengthMin, lengthMax)
	if ok {
		n.p.MaxBurst = v
	}
	return numberAnswer(v, ok)
}

// 13.14, "FirstBurstLength": never above MaxBurstLength.
func (n *negotiation) firstBurstLength(value string) string {
	ours := uint32(firstBurstOurs)
	if o := n.options.FirstBurstLength; o > 0 {
		ours = uint32(min(max(o, lengthMin), maxBurstOurs))
	}
	v, ok := smaller(value, min(ours, n.p.MaxBurst), lengthMin, lengthMax)
	if ok {
		n.p.FirstBurst = v
	}
	return numberAnswer(v, ok)
}

// 13.15, "DefaultTime2Wait", in seconds.
func (n *negotiation) defaultTime2Wait(value string) string {
	return numberAnswer(larger(value, uint32(max(n.options.DefaultTime2Wait, 0)), 0, 3600))
}

// 13.16, "DefaultTime2Retain": a session whose connection is gone is gone, nothing of it is kept.
func (n *negotiation) defaultTime2Retain(value string) string {
	return numberAnswer(smaller(value, 0, 0, 3600))
}

// 13.17, "MaxOutstandingR2T".
func (n *negotiation) maxOutstandingR2T(value string) string {
	v, ok := smaller(value, 1, 1, 65535)
	if ok {
		n.p.MaxOutstandingR2T = v
	}
	return numberAnswer(v, ok)
}

// 13.18 and 13.19, "DataPDUInOrder", "DataSequenceInOrder".
func (n *negotiation) inOrder(value string) string { return boolAnswer(either(value, true)) }

// 13.20, "ErrorRecoveryLevel".
func (n *negotiation) errorRecoveryLevel(value string) string {
	return numberAnswer(smaller(value, 0, 0, 2))
}

// 13.23, "Task Reporting".
func (n *negotiation) taskReporting(value string) string { return listAnswer(first(value, "RFC3720")) }

// 13.24, "iSCSIProtocolLevel Negotiation": 1 is RFC 7143.
func (n *negotiation) protocolLevel(value string) string {
	return numberAnswer(smaller(value, 1, 0, 31))
}
