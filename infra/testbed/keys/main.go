// Command keys writes what a control plane on loopback needs to be trusted: a
// CA, a serving certificate for 127.0.0.1 and localhost, a key for service
// account tokens, and a second CA that vouches for nothing.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: keys DIRECTORY")
	}
	directory := os.Args[1]
	ca, caKey := authority(directory, "ca", "testbed")
	authority(directory, "other-ca", "somebody else")
	serving(directory, ca, caKey)

	// Service account tokens: the API server wants RSA or ECDSA, and old clients know RSA best.
	tokens, err := rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	write(directory, "service-accounts.key", 0o600, keyBlock(tokens))
	public, err := x509.MarshalPKIXPublicKey(&tokens.PublicKey)
	check(err)
	write(directory, "service-accounts.pub", 0o644, &pem.Block{Type: "PUBLIC KEY", Bytes: public})
}

func authority(directory, file, name string) (*x509.Certificate, crypto.Signer) {
	key := newKey()
	template := certificate(name)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	parsed, err := x509.ParseCertificate(der)
	check(err)
	write(directory, file+".crt", 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return parsed, key
}

func serving(directory string, ca *x509.Certificate, caKey crypto.Signer) {
	key := newKey()
	template := certificate("kube-apiserver")
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	check(err)
	write(directory, "apiserver.crt", 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(directory, "apiserver.key", 0o600, keyBlock(key))
}

func certificate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(err)
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
	}
}

func newKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	return key
}

func keyBlock(key crypto.Signer) *pem.Block {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
}

func write(directory, name string, mode os.FileMode, block *pem.Block) {
	check(os.WriteFile(filepath.Join(directory, name), pem.EncodeToMemory(block), mode))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
