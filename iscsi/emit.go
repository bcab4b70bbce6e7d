package iscsi

import "encoding/binary"

// This file is how what is to be sent becomes PDUs: each gets its StatSN and the window when it is put into a send. RFC 7143 section 4.2.2, "Ordering
// and iSCSI Numbering": StatSN counts every response with status; R2T, NOP-In of our own and Data-In without status do not.

// emit puts the next PDU of an item into the send, and reports whether that was its last.
func (s *session) emit(i *outItem) bool {
	n := Numbers{StatSN: s.statSN, ExpCmdSN: s.expCmdSN, MaxCmdSN: s.maxCmdSN()}
	switch i.kind {
	case outRaw:
		s.vec = append(s.vec, i.raw)
	case outAnswer:
		return s.emitAnswer(i, n)
	case outR2T:
		t := i.t
		if uint32(t.turn) != i.num || !t.in.asked {
			break // its task was ended meanwhile
		}
		r := R2T{LUN: t.lun, ITT: t.itt, TTT: t.tag(), R2TSN: t.in.r2tsn, Offset: t.in.at, Bytes: t.in.end - t.in.at, Numbers: n}
		t.in.r2tsn++
		s.put(r.AppendTo(s.head()), nil)
		s.asks(t)
	case outReject:
		s.statSN++
		s.put(Reject{Reason: RejectReason(i.num), DataBytes: BHSBytes, Numbers: n}.AppendTo(s.head()), i.raw)
	case outPing:
		s.put(NOPIn{ITT: NoTag, TTT: TTT(i.num), Numbers: n}.AppendTo(s.head()), nil)
	case outAsync:
		s.statSN++
		s.put(Async{Event: AsyncEvent(i.num), Parameter3: uint16(i.num >> 16), Numbers: n}.AppendTo(s.head()), i.raw)
	}
	return true
}

// put adds a PDU to the send: its BHS, which lies in a head and has the length of the data, and the data. What follows either is made here.
func (s *session) put(h, data []byte) {
	d := s.conn.Digests()
	h = AppendDigest(h, 0, d)
	s.vec = append(s.vec, h)
	if len(data) == 0 {
		return
	}
	s.vec = append(s.vec, data)
	if end := AppendDataEnd(h[len(h):], uint32(len(data)), dataCRC(data, d), d); len(end) > 0 {
		s.vec = append(s.vec, end)
	}
}

// emitAnswer puts the next PDU of the answer to a task into the send.
func (s *session) emitAnswer(i *outItem, n Numbers) bool {
	t := i.t
	switch t.kind {
	case kindSCSI:
		if t.at < t.fed {
			if !s.emitData(t, n) {
				return false
			}
		} else {
			s.emitResponse(t, n)
		}
	case kindPing:
		s.put(NOPIn{LUN: t.lun, ITT: t.itt, TTT: NoTag, DataBytes: t.ping, Numbers: n}.AppendTo(s.head()), t.data[:t.ping])
	case kindText:
		s.put(s.textAnswer(t, n).AppendTo(s.head()), t.data)
	case kindManage:
		s.put(TaskAnswer{ITT: t.itt, Response: t.result, Numbers: n}.AppendTo(s.head()), nil)
	case kindLogout:
		s.put(LogoutResponse{ITT: t.itt, Response: t.logout, Time2Wait: uint16(s.pg.view.options.DefaultTime2Wait), Numbers: n}.AppendTo(s.head()), nil)
	}
	s.statSN++
	s.sent = append(s.sent, t)
	return true
}

// emitData puts the next Data-In of a task into the send, and reports whether it is the last, which carries the status. RFC 7143 section 11.7.
func (s *session) emitData(t *task, n Numbers) bool {
	toEdge := s.params.MaxBurst - t.at%s.params.MaxBurst
	bytes := min(t.fed-t.at, s.params.SendBytesMax, toEdge)
	end := t.at+bytes == t.fed
	d := DataIn{ITT: t.itt, Final: end || bytes == toEdge, DataSN: t.sn, Offset: t.at, DataBytes: bytes, Numbers: n}
	// "Phase collapse": after a Good the last Data-In is the response. RFC 7143 section 11.4.2: other statuses, which are not good, have one of their own.
	if end && t.status == Good {
		d.Ends, d.Status, d.Residual = true, t.status, t.residual()
	}
	data := t.data[t.at : t.at+bytes]
	t.at += bytes
	t.sn++
	s.put(d.AppendTo(s.head()), data)
	return d.Ends
}

// emitResponse puts a SCSI Response into the send, its sense with it. RFC 7143 section 11.4.
func (s *session) emitResponse(t *task, n Numbers) {
	r := SCSIResponse{ITT: t.itt, Status: t.status, ExpDataSN: t.sn + t.in.r2tsn, Residual: t.residual(), Numbers: n}
	h := s.head()
	if t.status != CheckCondition {
		s.put(r.AppendTo(h), nil)
		return
	}
	// The sense lies in the head too, with room before it for the BHS and what put adds to that.
	const at = BHSBytes + 2*DigestBytes + 4
	data := append(h[at:at], 0, 0)
	data = t.AppendSense(data)
	binary.BigEndian.PutUint16(data, uint16(len(data)-SenseLengthBytes))
	r.DataBytes = uint32(len(data))
	s.put(r.AppendTo(h), data)
}

// residual is what the initiator expected to be moved against what the command moves. RFC 7143 section 11.4.5.
func (t *task) residual() Residual {
	moves := t.want
	if t.status != Good && t.status != ConditionMet && t.reads {
		moves = 0
	}
	switch {
	case moves > t.edtl:
		return Residual{Overflow: true, Count: moves - t.edtl}
	case moves < t.edtl:
		return Residual{Underflow: true, Count: t.edtl - moves}
	}
	return Residual{}
}

// reject answers the PDU whose header arrived last by a Reject, and throws its data away. RFC 7143 section 11.17.
func (s *session) reject(why RejectReason) {
	s.rejectLast(why)
	s.ignoreData()
}

// rejectsMax is how many Rejects may wait to be sent: an initiator that only sends what is rejected is given up.
const rejectsMax = 64

func (s *session) rejectLast(why RejectReason) {
	if why == RejectDataDigest {
		s.count(FailureDigest, why.String())
	} else {
		s.count(FailureReject, why.String())
	}
	if len(s.out)-s.outHead > len(s.tasks)*2+rejectsMax {
		s.fault("it does not take its answers")
		return
	}
	s.send(outItem{kind: outReject, raw: append([]byte(nil), s.conn.BHS...), num: uint32(why)})
}

// dataCRC is the digest of a whole data segment, where there is to be one.
func dataCRC(data []byte, d Digests) uint32 {
	if d&DataDigests == 0 {
		return 0
	}
	return DataCRC(0, data)
}
