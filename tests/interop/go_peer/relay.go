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
// It reads CA_FILE, CERTIFICATE_FILE and KEY_FILE (none for a sender), and TOKEN_FILE from the environment. It sends
// no Trunkline field, so that plain yamux is agreed.
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
		"GET /v1/link HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: yamux\r\nAuthorization: Bearer %s\r\n\r\n",
		address, strings.TrimSpace(string(token)))
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
	if name := os.Getenv("CERTIFICATE_FILE"); name != "" {
		identity, err := tls.LoadX509KeyPair(name, os.Getenv("KEY_FILE"))
		if err != nil {
			return nil, err
		}
		configuration.Certificates = []tls.Certificate{identity}
	}
	return configuration, nil
}

// buffered is a connection whose first bytes may already have been read with the answer's head.
type buffered struct {
	net.Conn
	reader *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) {
	return b.reader.Read(p)
}
