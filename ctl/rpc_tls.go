package ctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is the control socket over TCP: TLS 1.3 alone, and a certificate from every client. What a client may do stands in
// its certificate: the organizational unit (OU) of its subject is viewer, operator or admin (RFC 5280 section 4.1.2.6). Who has none
// of the authority that --rpc-client-ca names, or whose certificate says no role or two, is not let in.
//
// The files are read again for each connection, so that certificates are renewed by replacing them. Where they cannot be read then,
// those read last stay in use, and the log says so.

// TLSFiles are the files of the control socket over TCP, PEM.
type TLSFiles struct {
	Cert, Key string // the engine's own
	ClientCA  string // authorities of clients
}

// handshakeTimeout bounds the time in which a client has to show its certificate.
const handshakeTimeout = 10 * time.Second

// remoteWriteTimeout is how long a remote client may take nothing of an answer until it is held to be gone.
const remoteWriteTimeout = 30 * time.Second

// ListenTLS answers calls on a TCP address. It has places of its own for connections: nobody on the network takes those of the unix
// socket.
func ListenTLS(addr string, files TLSFiles, reg *Registry, log *slog.Logger) (*Server, error) {
	if files.Cert == "" || files.Key == "" || files.ClientCA == "" {
		return nil, fmt.Errorf("listen for control on %s: over TCP it takes TLS and a certificate of every client; give --rpc-tls-cert, --rpc-tls-key and --rpc-client-ca", addr)
	}
	config, err := files.load()
	if err != nil {
		return nil, fmt.Errorf("listen for control on %s: %w", addr, err)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for control on %s: %w", addr, err)
	}
	s := newServer(reg, log, listener, addr)
	s.tls = func() *tls.Config { // by one goroutine, that which accepts
		now, err := files.load()
		if err != nil {
			log.Error("read the certificates of the control socket again; those read before stay in use", "error", err)
			return config
		}
		config = now
		return config
	}
	s.wait.Go(s.accept)
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// load reads the files.
func (f *TLSFiles) load() (*tls.Config, error) {
	cert, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("--rpc-tls-cert: %w", err)
	}
	file, err := openKey(f.Key)
	if err != nil {
		return nil, fmt.Errorf("--rpc-tls-key: %w", err)
	}
	file.Close()
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return nil, fmt.Errorf("--rpc-tls-key: %w", err)
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--rpc-tls-cert %s and --rpc-tls-key %s: %w", f.Cert, f.Key, err)
	}
	text, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("--rpc-client-ca: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--rpc-client-ca: %s holds no certificate in PEM", f.ClientCA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
		SessionTicketsDisabled: true, // each connection shows its certificate
		VerifyConnection: func(c tls.ConnectionState) error {
			_, err := roleOfCertificate(c.PeerCertificates[0])
			return err
		},
	}, nil
}

// roleOfCertificate reads a client's role out of its certificate.
func roleOfCertificate(c *x509.Certificate) (role api.Role, err error) {
	for _, unit := range c.Subject.OrganizationalUnit {
		r, err := api.ParseRole(unit)
		if err != nil {
			continue // another unit
		}
		if role != 0 {
			return 0, fmt.Errorf("the certificate of %q has two roles as its organizational units; it has to have one", c.Subject.CommonName)
		}
		role = r
	}
	if role == 0 {
		return 0, fmt.Errorf("the certificate of %q has no role as its organizational unit: viewer, operator or admin", c.Subject.CommonName)
	}
	return role, nil
}

// greet makes the TLS connection of a remote client, and finds out who that is.
func (c *conn) greet(config *tls.Config) error {
	secured := tls.Server(c.sock, config)
	ctx, cancel := context.WithTimeout(c.ctx, handshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		return err
	}
	peer := secured.ConnectionState().PeerCertificates[0]
	role, err := roleOfCertificate(peer)
	if err != nil {
		return err
	}
	c.stream, c.role, c.patience = secured, role, remoteWriteTimeout
	c.who = fmt.Sprintf("%s %q at %s", role, peer.Subject.CommonName, c.sock.RemoteAddr())
	return nil
}
