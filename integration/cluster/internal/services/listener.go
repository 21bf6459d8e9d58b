package services

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// dialTimeout is when an endpoint that does not answer is given up for the next.
const dialTimeout = 2 * time.Second

// listener forwards the connections to one address and port.
type listener struct {
	port   servicePort
	socket net.Listener

	mu       sync.Mutex
	backends []string
	next     int
}

// listen must be called with the proxy's mutex held, so that no change of the
// endpoints falls between its look at them and the caller's noting it.
func listen(p *Proxy, address netip.AddrPort, port servicePort) (*listener, error) {
	socket, err := net.Listen("tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("listen for port %s: %w", strconv.Quote(port.name), err)
	}
	l := &listener{port: port, socket: socket, backends: p.backendsOf(port)}
	go l.accept()
	return l, nil
}

// close stops listening; established connections live on.
func (l *listener) close() { _ = l.socket.Close() }

func (l *listener) set(backends []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.backends = backends
}

func (l *listener) accept() {
	for {
		connection, err := l.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, or the client has gone already
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go l.forward(connection.(*net.TCPConn))
	}
}

// order returns all backends, starting with the next one in turn.
func (l *listener) order() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.backends) == 0 {
		return nil
	}
	l.next = (l.next + 1) % len(l.backends)
	return slices.Concat(l.backends[l.next:], l.backends[:l.next])
}

// forward connects the client with the first backend that takes the connection.
// Without any, the client gets a reset, the nearest to a refusal that is left
// once a connection has been accepted.
func (l *listener) forward(client *net.TCPConn) {
	dialer := net.Dialer{Timeout: dialTimeout}
	for _, address := range l.order() {
		if backend, err := dialer.Dial("tcp", address); err == nil {
			join(client, backend.(*net.TCPConn))
			return
		}
	}
	_ = client.SetLinger(0)
	_ = client.Close()
}

// join copies both ways until both sides are done. The end of one direction is
// handed on as such, an error as a reset.
func join(a, b *net.TCPConn) {
	var both sync.WaitGroup
	copyTo := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			_ = a.SetLinger(0)
			_ = b.SetLinger(0)
			_ = a.Close()
			_ = b.Close()
			return
		}
		_ = to.CloseWrite()
	}
	both.Go(func() { copyTo(a, b) })
	both.Go(func() { copyTo(b, a) })
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}
