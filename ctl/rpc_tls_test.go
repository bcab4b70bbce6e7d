package ctl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// authority makes certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
	made int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	subject := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var cert string
	cert, _ = a.sign("authority", subject)
	a.file = cert
	return a
}

// sign makes a certificate and its key, and gives their files.
func (a *authority) sign(name string, c *x509.Certificate) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.made++
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(a.made), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	by, signer := a.cert, a.key
	if by == nil {
		by, signer = c, private
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &private.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == nil {
		a.cert, a.key = c, private
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// engine makes the files of an engine on the loopback.
func (a *authority) engine(name string) TLSFiles {
	cert, key := a.sign(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return TLSFiles{Cert: cert, Key: key, ClientCA: a.file}
}

// client makes the files of a client with the units given.
func (a *authority) client(name string, units ...string) api.TLSFiles {
	cert, key := a.sign(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name, OrganizationalUnit: units}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return api.TLSFiles{Cert: cert, Key: key, CA: a.file}
}

// dialTLS connects, and makes the call that shows whether the client was let in.
func dialTLS(t *testing.T, addr string, files api.TLSFiles) (*api.Client, error) {
	t.Helper()
	c, err := api.DialTLS(addr, files)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	_, err = api.SPDKGetVersion.Call(t.Context(), c, api.None{})
	return c, err
}

func listenTLS(t *testing.T, e testEngine, files TLSFiles) string {
	t.Helper()
	server, err := ListenTLS("127.0.0.1:0", files, e.Methods, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.Addr().String()
}

// TestRolesOverTLS: what a client may do is what its certificate says.
func TestRolesOverTLS(t *testing.T) {
	a := newAuthority(t)
	e := startEngine(t)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	addr := listenTLS(t, e, a.engine("engine"))
	dial := func(name string, units ...string) *api.Client {
		c, err := dialTLS(t, addr, a.client(name, units...))
		if err != nil {
			t.Fatal(name, err)
		}
		return c
	}
	viewer, operator, admin := dial("v", "viewer"), dial("o", "storage", "Operator"), dial("a", "admin")
	null := func(name string) api.BdevNullCreateParams {
		return api.BdevNullCreateParams{Name: name, NumBlocks: 64, BlockSize: 512}
	}
	key := api.AccelCryptoKeyCreateParams{Name: "k", Cipher: "AES_XTS", Key: "00112233445566778899aabbccddeeff", Key2: "ffeeddccbbaa99887766554433221100"}

	refused(t, viewer, api.BdevNullCreate, null("n0"), -13, "bdev_null_create needs the role operator; this client's is viewer")
	must(t, operator, api.BdevNullCreate, null("n0"))
	must(t, viewer, api.BdevGetBdevs, api.BdevGetBdevsParams{})
	refused(t, operator, api.AccelCryptoKeyCreate, key, -13, "needs the role admin")
	refused(t, operator, api.BdevUringCreate, api.BdevUringCreateParams{Name: "u0", Filename: "/etc/shadow"}, -13, "needs the role admin")
	refused(t, viewer, api.SPDKKillInstance, api.KillParams{SigName: "SIGTERM"}, -13, "needs the role admin")
	must(t, admin, api.BdevNullCreate, null("n1"))
	must(t, admin, api.AccelCryptoKeyCreate, key)
	must(t, operator, api.NVMFCreateSubsystem, api.NVMFCreateSubsystemParams{NQN: loopNQN})
	reserve := api.NVMFAddNSParams{NQN: loopNQN, Namespace: api.NVMFNamespaceParams{BdevName: "n0", PTPLFile: filepath.Join(t.TempDir(), "ptpl")}}
	refused(t, operator, api.NVMFSubsystemAddNS, reserve, -13, "ptpl_file needs the role admin")
	must(t, admin, api.NVMFSubsystemAddNS, reserve)

	for _, c := range []struct {
		who  string
		api  *api.Client
		told bool
	}{{"a viewer", viewer, false}, {"an operator", operator, false}, {"an admin", admin, true}} {
		saved, err := api.SaveConfig(t.Context(), c.api)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, s := range saved.Subsystems {
			for _, call := range s.Config {
				text += string(call.Params)
			}
		}
		if told := strings.Contains(text, key.Key) || strings.Contains(text, key.Key2); told != c.told {
			t.Errorf("%s is told keys: %v", c.who, told)
		}
		if !c.told && !strings.Contains(text, `"name":"k"`) {
			t.Errorf("%s does not see that there is a key:\n%s", c.who, text)
		}
	}
}

// TestWhoIsNotLetInOverTLS: nobody without a certificate that says one role.
func TestWhoIsNotLetInOverTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	addr := listenTLS(t, startEngine(t), a.engine("engine"))
	foreign := stranger.client("foreign", "admin")
	foreign.CA = a.file
	server := a.engine("server") // a certificate, but not one of a client
	for name, files := range map[string]api.TLSFiles{
		"another authority":       foreign,
		"no role":                 a.client("none"),
		"another unit":            a.client("unit", "storage"),
		"two roles":               a.client("two", "viewer", "admin"),
		"an engine's own":         {Cert: server.Cert, Key: server.Key, CA: a.file},
		"no certificate":          {CA: a.file},
		"an engine it trusts not": func() api.TLSFiles { f := a.client("doubts", "admin"); f.CA = stranger.file; return f }(),
	} {
		if _, err := dialTLS(t, addr, files); err == nil {
			t.Errorf("%s: it is let in", name)
		}
	}
	for name, config := range map[string]*tls.Config{
		"TLS 1.2":        {MaxVersion: tls.VersionTLS12},
		"no certificate": {},
	} {
		config.InsecureSkipVerify = true // it is the engine's doubt that is tested
		c, err := tls.Dial("tcp", addr, config)
		if err != nil {
			continue
		}
		if _, err := fmt.Fprint(c, `{"id":1,"method":"spdk_get_version"}`); err == nil {
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: it is answered %d bytes", name, n)
			}
		}
		c.Close()
	}
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := fmt.Fprint(plain, `{"id":1,"method":"spdk_get_version"}`); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 256)
	n, _ := plain.Read(answer)
	if strings.Contains(string(answer[:n]), "result") {
		t.Errorf("without TLS: %q", answer[:n])
	}
}

// TestCertificatesAreRenewed: a new certificate counts for the next connection; one that cannot be read changes nothing.
func TestCertificatesAreRenewed(t *testing.T) {
	a, next := newAuthority(t), newAuthority(t)
	files := a.engine("engine")
	addr := listenTLS(t, startEngine(t), files)
	client := a.client("c", "viewer")
	if _, err := dialTLS(t, addr, client); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(files.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.Cert, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dialTLS(t, addr, client); err != nil {
		t.Error("while the file is broken:", err)
	}
	if err := os.WriteFile(files.Cert, good, 0o600); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(next.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.ClientCA, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dialTLS(t, addr, client); err == nil {
		t.Error("a client of an authority that was taken away is let in")
	}
}

func TestListenTLSRefuses(t *testing.T) {
	a := newAuthority(t)
	good := a.engine("engine")
	other := a.engine("other")
	open := filepath.Join(t.TempDir(), "open.key")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	reg := newReg()
	for name, c := range map[string]struct {
		change func(f *TLSFiles)
		want   string
	}{
		"no files":            {func(f *TLSFiles) { *f = TLSFiles{} }, "give --rpc-tls-cert, --rpc-tls-key and --rpc-client-ca"},
		"no authority":        {func(f *TLSFiles) { f.ClientCA = "" }, "over TCP it takes TLS and a certificate of every client"},
		"a missing file":      {func(f *TLSFiles) { f.Cert += "x" }, "--rpc-tls-cert: open"},
		"a key others read":   {func(f *TLSFiles) { f.Key = open }, "make it 0600"},
		"another's key":       {func(f *TLSFiles) { f.Key = other.Key }, "private key does not match"},
		"authorities of none": {func(f *TLSFiles) { f.ClientCA = good.Key }, "holds no certificate"},
	} {
		files := good
		c.change(&files)
		if s, err := ListenTLS("127.0.0.1:0", files, reg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: it listens at %v", name, s.Addr())
			s.Close()
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
