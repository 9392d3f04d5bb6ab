// A yamux peer on the real hashicorp/yamux library, for the interoperation tests.
//
//	go_peer ADDRESS ROLE MODE [COUNT] [SIZE]
//
// It dials ADDRESS (a unix socket's path, or host:port; with TRUNKLINE_RELAY=1 it attaches to a relay instead, see
// relay.go), takes the yamux ROLE `client` or `server` whoever dialled, and then, by MODE:
//
//	serve   http.Serve on the session: /hello, /echo, /cancelled
//	echo    accept streams and send back what arrives; when the other side ends, end too
//	drive   open COUNT streams at once, send SIZE bytes on each, check that they come back; ping; say goodbye
//	fetch   COUNT HTTP exchanges at once: POST /echo with SIZE bytes, Connection: close
//	reset   open a stream, send SIZE bytes, and drop the connection's stream by closing it unread
//
// Each event is one line on stdout: a word, then values. Errors end the program with status 1.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

func main() {
	if len(os.Args) < 4 {
		fail(errors.New("usage: go_peer ADDRESS ROLE MODE [COUNT] [SIZE]"))
	}
	connection, err := dial(os.Args[1])
	if err != nil {
		fail(err)
	}
	session, err := open(connection, os.Args[2])
	if err != nil {
		fail(err)
	}
	say("up")
	if err := run(session, os.Args[3], argument(4, 1), argument(5, 0)); err != nil {
		fail(err)
	}
	say("done")
}

func run(session *yamux.Session, mode string, count, size int) error {
	switch mode {
	case "serve":
		err := http.Serve(session, handler())
		say("served", err)
		return nil
	case "echo":
		return echo(session)
	case "drive":
		return drive(session, count, size)
	case "fetch":
		return fetch(session, count, size)
	case "reset":
		return abandon(session, size)
	}
	return errors.New("unknown mode " + mode)
}

func dial(address string) (net.Conn, error) {
	if os.Getenv("TRUNKLINE_RELAY") != "" {
		return attach(address)
	}
	if strings.HasPrefix(address, "/") {
		return net.Dial("unix", address)
	}
	return net.Dial("tcp", address)
}

func open(connection net.Conn, role string) (*yamux.Session, error) {
	if role == "client" {
		return yamux.Client(connection, nil)
	}
	return yamux.Server(connection, nil)
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s via %s", r.Host, r.Proto)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/cancelled", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		say("waiting")
		<-r.Context().Done()
		say("cancelled")
	})
	return mux
}

func echo(session *yamux.Session) error {
	for {
		stream, err := session.Accept()
		if err != nil {
			say("ended", err)
			return nil
		}
		go func() {
			defer stream.Close()
			n, err := io.Copy(stream, stream)
			say("echoed", n, err)
		}()
	}
}

func drive(session *yamux.Session, count, size int) error {
	payload := randomBytes(size)
	err := together(count, func() error {
		stream, err := session.Open()
		if err != nil {
			return err
		}
		defer stream.Close()
		go stream.Write(payload)
		received := make([]byte, size)
		if _, err := io.ReadFull(stream, received); err != nil {
			return err
		}
		if !bytes.Equal(received, payload) {
			return errors.New("the bytes that came back differ")
		}
		return nil
	})
	if err != nil {
		return err
	}
	rtt, err := session.Ping()
	if err != nil {
		return err
	}
	say("drove", count, size, rtt > 0)
	return session.GoAway()
}

func fetch(session *yamux.Session, count, size int) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return session.Open() },
	}}
	payload := randomBytes(size)
	err := together(count, func() error {
		response, err := client.Do(newRequest(payload))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		received, err := io.ReadAll(response.Body)
		if err == nil && (response.StatusCode != 200 || !bytes.Equal(received, payload)) {
			err = fmt.Errorf("status %d and %d bytes", response.StatusCode, len(received))
		}
		return err
	})
	if err == nil {
		say("fetched", count, size)
	}
	return err
}

// newRequest posts to the node that NODE_HOST names; through a relay each stream carries the call token of TOKEN_FILE.
func newRequest(payload []byte) *http.Request {
	host := os.Getenv("NODE_HOST")
	if host == "" {
		host = "node.test"
	}
	request, err := http.NewRequest("POST", "http://"+host+"/echo", bytes.NewReader(payload))
	if err != nil {
		fail(err)
	}
	if name := os.Getenv("TOKEN_FILE"); name != "" {
		token, err := os.ReadFile(name)
		if err != nil {
			fail(err)
		}
		request.Header.Set("Proxy-Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	return request
}

func abandon(session *yamux.Session, size int) error {
	stream, err := session.Open()
	if err != nil {
		return err
	}
	if _, err := stream.Write(randomBytes(size)); err != nil {
		return err
	}
	say("wrote", size)
	return session.Close()
}

func together(count int, work func() error) error {
	var group sync.WaitGroup
	results := make(chan error, count)
	for i := 0; i < count; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			results <- work()
		}()
	}
	group.Wait()
	close(results)
	for err := range results {
		if err != nil {
			return err
		}
	}
	return nil
}

func randomBytes(size int) []byte {
	payload := make([]byte, size)
	if _, err := rand.Read(payload); err != nil {
		fail(err)
	}
	return payload
}

func argument(index, otherwise int) int {
	if len(os.Args) <= index {
		return otherwise
	}
	number, err := strconv.Atoi(os.Args[index])
	if err != nil {
		fail(err)
	}
	return number
}

var output sync.Mutex

func say(values ...interface{}) {
	output.Lock()
	defer output.Unlock()
	fmt.Println(values...)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, time.Now().Format(time.RFC3339), err)
	os.Exit(1)
}
