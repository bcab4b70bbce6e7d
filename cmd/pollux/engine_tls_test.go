package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/ctl"
	"github.com/pollux-storage/pollux/ctl/api"
)

// oneCertificate makes a certificate that is its own authority, for an engine on the loopback and for an operator at once.
func oneCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		Subject: pkix.Name{CommonName: "both", OrganizationalUnit: []string{"operator"}}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestAnEngineOnTheNetwork drives one with --server.
func TestAnEngineOnTheNetwork(t *testing.T) {
	cert, key := oneCertificate(t)
	reg := ctl.NewRegistry(slog.New(slog.DiscardHandler))
	ctl.RegisterLog(reg, ctl.NewLog(io.Discard, slog.LevelError))
	server, err := ctl.ListenTLS("127.0.0.1:0", ctl.TLSFiles{Cert: cert, Key: key, ClientCA: cert}, reg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	reg.SetState(api.Runtime)
	sh := &shell{t, "/nowhere"}
	at := " --server tls://" + server.Addr().String()
	if out := sh.must("rpc log_get_level" + at + " --tls-cert " + cert + " --tls-key " + key + " --tls-ca " + cert); out == "" {
		t.Error("nothing is printed")
	}
	sh.fails("rpc log_get_level"+at, "give --tls-cert and --tls-key")
	sh.fails("rpc log_get_level"+at+" --tls-cert "+cert+" --tls-key "+key, "certificate")
	sh.fails("rpc log_get_level --server "+server.Addr().String(), "write for example tls://")
}

func TestServeRefusesControlWithoutCertificates(t *testing.T) {
	sh := &shell{t, "/nowhere"}
	socket := filepath.Join(t.TempDir(), "s")
	sh.fails("serve --rpc-socket "+socket+" --memory 16 --rpc-listen 127.0.0.1:0", "give --rpc-tls-cert, --rpc-tls-key and --rpc-client-ca")
	sh.fails("serve --rpc-socket "+socket+" --rpc-client-ca x", "give --rpc-listen too")
}
