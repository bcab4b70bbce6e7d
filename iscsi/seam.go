package iscsi

import (
	"io"
	"net/netip"
)

type login struct {
	params Params
	node   *Node
}
type loginState uint8

const (
	loginGoesOn loginState = iota
	loginEnters
	loginRefused
)

func (l *login) init(v *view, tag int, local, remote netip.AddrPort, random io.Reader) {}
func (l *login) request(h LoginRequest, text []byte) (LoginResponse, []byte, loginState) {
	return LoginResponse{}, nil, 0
}
func (l *login) finish(TSIH) (LoginResponse, []byte)             { return LoginResponse{}, nil }
func (l *login) refusal(LoginRequest, LoginStatus) LoginResponse { return LoginResponse{} }
func (l *login) refuse(LoginStatus) LoginResponse                { return LoginResponse{} }

func answerText(v *view, p *Params, local netip.AddrPort, text []byte) ([]byte, RejectReason) {
	return nil, 0
}
