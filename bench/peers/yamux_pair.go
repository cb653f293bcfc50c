// A forward over yamux with its defaults, and so its fixed window of 256 KiB for each stream, on one plain TCP
// connection: what bench/run --path compares flow control with. Built by the rig with Debian's Go and
// golang-github-hashicorp-yamux-dev, and only there.
//
//	yamux_pair server LISTEN TARGET
//	yamux_pair client LISTEN SERVER
package main

import (
	"fmt"
	"io"
	"net"
	"os"

	"github.com/hashicorp/yamux"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "yamux_pair:", err)
		os.Exit(1)
	}
}

// Both ways, until both have ended; the end of each is passed on.
func relay(a, b net.Conn) {
	done := make(chan struct{}, 2)
	pass := func(to, from net.Conn) {
		io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		} else {
			to.Close() // of a yamux stream: a half-close
		}
		done <- struct{}{}
	}
	go pass(a, b)
	go pass(b, a)
	<-done
	<-done
	a.Close()
	b.Close()
}

func serve(channel net.Conn, target string) {
	session, err := yamux.Server(channel, nil)
	must(err)
	for {
		stream, err := session.Accept()
		if err != nil {
			return
		}
		go func() {
			connection, err := net.Dial("tcp", target)
			if err != nil {
				stream.Close()
				return
			}
			relay(stream, connection)
		}()
	}
}

func main() {
	if len(os.Args) != 4 || (os.Args[1] != "server" && os.Args[1] != "client") {
		fmt.Fprintln(os.Stderr, "usage: yamux_pair server LISTEN TARGET | client LISTEN SERVER")
		os.Exit(2)
	}
	role, peer := os.Args[1], os.Args[3]
	var session *yamux.Session
	if role == "client" {
		channel, err := net.Dial("tcp", peer)
		must(err)
		session, err = yamux.Client(channel, nil)
		must(err)
	}
	listener, err := net.Listen("tcp", os.Args[2])
	must(err)
	for {
		connection, err := listener.Accept()
		must(err)
		if role == "server" {
			go serve(connection, peer)
			continue
		}
		go func() {
			stream, err := session.Open()
			if err != nil {
				connection.Close()
				return
			}
			relay(stream, connection)
		}()
	}
}
