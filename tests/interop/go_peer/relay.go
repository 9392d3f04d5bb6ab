package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

// attach opens a link to a relay the way docs/protocol.md says, section 3: TLS, then GET /v1/link with Upgrade: yamux.
// It reads CA_FILE, IDENTITY_FILE (certificate and key; none for a sender) and TOKEN_FILE from the environment. It
// states no terms, so that plain yamux is agreed; a listener has to say which instance it is.
func attach(address string) (net.Conn, error) {
	configuration, err := tlsConfiguration()
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(os.Getenv("TOKEN_FILE"))
	if err != nil {
		return nil, err
	}
	connection, err := tls.Dial("tcp", address, configuration)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(connection,
		"GET /v1/link HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: yamux\r\nAuthorization: Bearer %s\r\n",
		address, strings.TrimSpace(string(token)))
	if len(configuration.Certificates) > 0 {
		fmt.Fprintf(connection, "Trunkline-Instance: %s\r\nTrunkline-Sequence: 1\r\n", newInstance())
	}
	fmt.Fprint(connection, "\r\n")
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("the relay answered %s", response.Status)
	}
	return &buffered{connection, reader}, nil
}

func tlsConfiguration() (*tls.Config, error) {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(os.Getenv("CA_FILE"))
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in CA_FILE")
	}
	configuration := &tls.Config{RootCAs: roots}
	if name := os.Getenv("IDENTITY_FILE"); name != "" {
		identity, err := tls.LoadX509KeyPair(name, name)
		if err != nil {
			return nil, err
		}
		configuration.Certificates = []tls.Certificate{identity}
	}
	return configuration, nil
}

// newInstance is a random UUID (version 4).
func newInstance() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// buffered is a connection whose first bytes may already have been read with the answer's head.
type buffered struct {
	net.Conn
	reader *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) {
	return b.reader.Read(p)
}
