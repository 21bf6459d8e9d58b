package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"kthena-router/integration/cluster/internal/topology"
)

// certificateLife is far longer than a run and short enough to be of no use to
// anyone who finds a forgotten state directory.
const certificateLife = 48 * time.Hour

// authority signs the certificates of one cluster.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// identity is what a certificate says about its holder.
type identity struct {
	file         string
	commonName   string
	organization []string
	ips          []net.IP
	names        []string
	usage        x509.ExtKeyUsage
}

// writePKI makes the certificate authority, the certificates of the API server,
// of its client side towards the kubelet, of the kubelet, of the administrator,
// and the key that signs service account tokens.
func writePKI(state topology.State) error {
	if err := os.MkdirAll(state.PKI(""), 0o700); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	ca, err := newAuthority(state)
	if err != nil {
		return fmt.Errorf("make certificate authority: %w", err)
	}
	host := net.ParseIP(topology.HostIP)
	identities := []identity{
		{
			file: "apiserver", commonName: "kube-apiserver", usage: x509.ExtKeyUsageServerAuth,
			ips:   []net.IP{host, net.ParseIP("127.0.0.1"), net.ParseIP("10.96.0.1")},
			names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		},
		{file: "kubelet", commonName: "kubelet", usage: x509.ExtKeyUsageServerAuth, ips: []net.IP{host}},
		{file: "kubelet-client", commonName: "kube-apiserver", usage: x509.ExtKeyUsageClientAuth},
		{file: "admin", commonName: "admin", organization: []string{"system:masters"}, usage: x509.ExtKeyUsageClientAuth},
	}
	for _, id := range identities {
		if err := ca.issue(state, id); err != nil {
			return fmt.Errorf("make certificate %s: %w", id.file, err)
		}
	}
	if _, err := newKey(state.PKI("service-account.key")); err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	return nil
}

func newAuthority(state topology.State) (*authority, error) {
	key, err := newKey(state.PKI("ca.key"))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "cluster-ca"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(certificateLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, writePEM(state.PKI("ca.crt"), "CERTIFICATE", der)
}

func (ca *authority) issue(state topology.State, id identity) error {
	key, err := newKey(state.PKI(id.file + ".key"))
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id.commonName, Organization: id.organization},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{id.usage},
		IPAddresses:  id.ips,
		DNSNames:     id.names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return err
	}
	return writePEM(state.PKI(id.file+".crt"), "CERTIFICATE", der)
}

func newKey(path string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return os.WriteFile(filepath.Clean(path), text, 0o600)
}
