"""UDP by hand: the application's side of SOCKS5 UDP ASSOCIATE, and targets that answer."""

import contextlib
import ipaddress
import selectors
import socket
import struct
import threading

from apps import SOCKS_REPLY_LENGTH, Refused, receive_exactly
from waiting import SLOWNESS

LARGEST = 65507  # payload of one IPv4 datagram
BUFFER_BYTES = 4 << 20


def address(host, port):
    try:
        ip = ipaddress.ip_address(host)
        kind = bytes([1 if ip.version == 4 else 4]) + ip.packed
    except ValueError:
        kind = bytes([3, len(host)]) + host.encode()
    return kind + struct.pack(">H", port)


def read_address(data):
    """ATYP, address and port at the start of `data`: (host, port) and what follows."""
    size = {1: 4, 3: 1 + data[1], 4: 16}[data[0]]
    raw = data[1:1 + size]
    host = raw[1:].decode() if data[0] == 3 else str(ipaddress.ip_address(raw))
    return (host, *struct.unpack(">H", data[1 + size:3 + size])), data[3 + size:]


def udp_socket(host="127.0.0.1", timeout=15):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.bind((host, 0))
    sock.settimeout(timeout * SLOWNESS)
    return sock


class Association:
    """One UDP association of an application: its control connection, its relay, a socket of its own."""

    def __init__(self, proxy_port, proxy="127.0.0.1", named=("0.0.0.0", 0), timeout=15):
        self.control = socket.create_connection((proxy, proxy_port), timeout * SLOWNESS)
        self.socket = udp_socket(proxy, timeout)
        if named == "own":
            named = self.socket.getsockname()[:2]
        self.control.sendall(b"\x05\x01\x00")
        assert receive_exactly(self.control, 2) == b"\x05\x00"
        self.control.sendall(b"\x05\x03\x00" + address(*named))
        head = receive_exactly(self.control, 4)
        rest = receive_exactly(self.control, SOCKS_REPLY_LENGTH[head[3]])
        if head[1] != 0:
            raise Refused(f"reply {head[1]}")
        self.relay, _ = read_address(head[3:] + rest)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.control.close()
        self.socket.close()

    def send(self, host, port, payload):
        self.send_raw(b"\0\0\0" + address(host, port) + payload)

    def send_raw(self, datagram, sock=None):
        (sock or self.socket).sendto(datagram, self.relay)

    def receive(self):
        """(who sent it, payload) of the next datagram."""
        data, source = self.socket.recvfrom(1 << 16)
        assert source[:2] == self.relay, "it comes from the relay"
        assert data[:3] == b"\0\0\0"
        return read_address(data[3:])

    def ask(self, host, port, payload):
        self.send(host, port, payload)
        return self.receive()

    def ask_again(self, host, port, payload, every=0.5):
        """As ask(), where a datagram may be lost: asks again until it is answered, as applications do."""
        before = self.socket.gettimeout()
        self.socket.settimeout(every * SLOWNESS)
        try:
            for _ in range(30):
                with contextlib.suppress(socket.timeout):
                    return self.ask(host, port, payload)
            raise AssertionError(f"{host}:{port} never answered")
        finally:
            self.socket.settimeout(before)

    def silent(self, seconds=0.3):
        """Whether nothing arrives within the time."""
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds * SLOWNESS)
        try:
            self.socket.recv(1 << 16)
            return False
        except socket.timeout:
            return True
        finally:
            self.socket.settimeout(before)


class Echo:
    """UDP sockets, each answering every datagram with its own port number before it, from one thread."""

    def __init__(self, count=1, host="127.0.0.1", answer=lambda port, data: b"%d|" % port + data):
        self.received = []  # (port of the target, source)
        self._answer = answer
        self._sockets = [udp_socket(host) for _ in range(count)]
        self.ports = [sock.getsockname()[1] for sock in self._sockets]
        self.port = self.ports[0]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self):
        with selectors.DefaultSelector() as selector:
            for sock, port in zip(self._sockets, self.ports):
                selector.register(sock, selectors.EVENT_READ, port)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        return
                    data, source = key.fileobj.recvfrom(1 << 16)
                    self.received.append((key.data, source))
                    answer = self._answer(key.data, data)
                    if answer is not None:
                        key.fileobj.sendto(answer, source)

    def send(self, payload, to):
        """Sends from the first target, unasked."""
        self._sockets[0].sendto(payload, to)

    def stop(self):
        self._wake.send(b"x")
        self._thread.join(10)
        for sock in (*self._sockets, self._wake, self._woken):
            sock.close()
