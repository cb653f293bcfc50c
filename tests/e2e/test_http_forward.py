"""Requests that the HTTP proxy forwards, byte for byte: what a raw origin receives and what a raw client gets back."""

import asyncio
import socket

import pytest

import apps
from origins import Origin
from procs import free_port
from waiting import SLOWNESS, wait_until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class RawOrigin:
    """Answers byte strings: each connection waits for exactly the bytes that are next in `script`, then writes the
    answer that stands beside them; None closes."""

    def __init__(self, lab):
        self.connections = []
        self.script = []
        self.origin = lab.origin(self._serve)
        self.port = self.origin.port

    async def _serve(self, reader, writer):
        received = bytearray()
        self.connections.append(received)
        taken = 0
        while data := await reader.read(1 << 16):
            received += data
            while self.script and bytes(received[taken:taken + len(self.script[0][0])]) == self.script[0][0]:
                expected, answer = self.script.pop(0)
                taken += len(expected)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if answer.endswith(b"CLOSE"):
                    return

    def reset(self, *script):
        self.connections = []
        self.script = list(script)


def forward(method, rest=b"", body=b"", version=b"1.1", host=True):
    """(what a client sends, what the origin is to get) for a request whose further fields are `rest`."""
    def build(port):
        authority = b"127.0.0.1:%d" % port
        named = b"Host: " + authority + b"\r\n"
        sent = method + b" http://" + authority + b"/x?y HTTP/" + version + b"\r\n" + (named if host else b"") + rest
        return sent + b"\r\n" + body, method + b" /x?y HTTP/1.1\r\n" + named
    return build


# name: (request builder, what the origin gets behind the request line and Host, its answer, what the client gets,
#        whether the client's connection ends)
EXCHANGES = {
    "GET": (forward(b"GET"), b"\r\n", OK, OK, False),
    "repeated fields": (forward(b"GET", b"Accept: a\r\nX: 1\r\naccept: b\r\n"),
                        b"Accept: a\r\nX: 1\r\naccept: b\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", False),
    "hop-by-hop": (forward(b"GET", b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n"
                                   b"Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-End: 1\r\n"),
                   b"X-End: 1\r\n\r\n",
                   b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 1\r\n"
                   b"Content-Length: 0\r\n\r\n",
                   b"HTTP/1.1 200 OK\r\nX-End: 1\r\nContent-Length: 0\r\n\r\n", False),
    "HEAD": (forward(b"HEAD"), b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
             b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", False),
    "204": (forward(b"DELETE"), b"\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n",
            False),
    "304": (forward(b"GET"), b"\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", False),
    "a body with a length": (forward(b"POST", b"Content-Length: 5\r\n", b"hello"), b"Content-Length: 5\r\n\r\nhello",
                             OK, OK, False),
    "chunks and trailers": (
        forward(b"POST", CHUNKED + b"Trailer: Sum\r\n", b"5;x=y\r\nhello\r\n0\r\nSum: 1\r\nSum: 2\r\n\r\n"),
        CHUNKED + b"Trailer: Sum\r\n\r\n5\r\nhello\r\n0\r\nSum: 1\r\nSum: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n2\r\nok\r\n0\r\nSum: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n2\r\nok\r\n0\r\nSum: 3\r\n\r\n", False),
    "trailers that are not to stand there": (
        forward(b"POST", CHUNKED, b"0\r\nContent-Length: 5\r\nHost: x\r\nFine: 1\r\n\r\n"),
        CHUNKED + b"\r\n0\r\nFine: 1\r\n\r\n", OK, OK, False),
    "interim answers": (forward(b"GET"), b"\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK,
                        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK, False),
    "until the end": (forward(b"GET"), b"\r\n", b"HTTP/1.1 200 OK\r\n\r\ntext CLOSE",
                      b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ntext CLOSE", True),
    "HTTP/1.0": (forward(b"GET", version=b"1.0", host=False), b"Connection: close\r\n\r\n", OK, OK_CLOSE, True),
    "HTTP/1.0 and chunks": (forward(b"GET", version=b"1.0"), b"Connection: close\r\n\r\n",
                            b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n",
                            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", True),
    "Connection: close": (forward(b"GET", b"Connection: close\r\n"), b"Connection: close\r\n\r\n", OK, OK_CLOSE, True),
    "an answer before the body": (forward(b"PUT", b"Content-Length: 100\r\n", b"some"),
                                  b"Content-Length: 100\r\n\r\nsome", OK, OK_CLOSE, True),
    "an answer cut short": (forward(b"GET"), b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart CLOSE",
                            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart CLOSE", True),
}


def connect(client):
    return socket.create_connection(("127.0.0.1", client.port), 10 * SLOWNESS)


def read_all(sock):
    """What comes until the end; a reset counts as one."""
    data = b""
    try:
        while piece := sock.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    return data


@pytest.mark.sanitizers
def test_exchanges(lab):
    _, client = lab.pair()
    origin = RawOrigin(lab)
    for name, (build, received, answer, given, ends) in EXCHANGES.items():
        request, line = build(origin.port)
        origin.reset((line + received, answer))
        with connect(client) as sock:
            sock.sendall(request)
            assert apps.receive_exactly(sock, len(given)) == given, name
            if ends:
                assert read_all(sock) == b"", name
            else:
                # The connection and the stream both serve another request.
                request, line = EXCHANGES["GET"][0](origin.port)
                origin.script = [(line + b"\r\n", OK)]
                sock.sendall(request)
                assert apps.receive_exactly(sock, len(OK)) == OK, name
                assert bytes(origin.connections[0]).endswith(line + b"\r\n"), name
            assert len(origin.connections) == 1, name
    assert client.process.running()


@pytest.mark.sanitizers
def test_every_request_goes_where_it_says(lab):
    """Pipelined, byte by byte: two origins in turn, answers in order."""
    _, client = lab.pair()
    one, two = RawOrigin(lab), RawOrigin(lab)
    build = forward(b"GET")
    answers = []
    requests = b""
    for number in range(6):
        origin = (one, two)[number // 2 % 2]  # two requests in a row share a stream
        request, line = build(origin.port)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number
        origin.script.append((line + b"\r\n", answer))
        answers.append(answer)
        requests += request
    with connect(client) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(requests), 3):
            sock.sendall(requests[at:at + 3])
        expected = b"".join(answers)
        assert apps.receive_exactly(sock, len(expected)) == expected
    assert len(one.connections) == 2 and len(two.connections) == 1


def test_continue(lab):
    _, client = lab.pair()
    origin = RawOrigin(lab)
    request, line = forward(b"PUT", b"Expect: 100-continue\r\nContent-Length: 5\r\n")(origin.port)
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    origin.reset((line + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", go_on), (b"hello", OK))
    with connect(client) as sock:
        sock.sendall(request)
        assert apps.receive_exactly(sock, len(go_on)) == go_on
        sock.sendall(b"hello")
        assert apps.receive_exactly(sock, len(OK)) == OK


@pytest.mark.sanitizers
def test_upgrade(lab):
    """A WebSocket or anything else through the plain proxy: bytes sent too early, and both directions after."""
    _, client = lab.pair()
    origin = RawOrigin(lab)
    fields = b"Connection: keep-alive, Upgrade\r\nUpgrade: echo\r\nSec-WebSocket-Key: x\r\n"
    request, line = forward(b"GET", fields, b"early")(origin.port)
    switch = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwelcome"
    origin.reset((line + b"Sec-WebSocket-Key: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", switch),
                 (b"early", b"\x00\xff"), (b"later", b"bye CLOSE"))
    with connect(client) as sock:
        sock.sendall(request)
        assert apps.receive_exactly(sock, len(switch) + 2) == switch + b"\x00\xff"
        sock.sendall(b"later")
        assert read_all(sock) == b"bye CLOSE"


def test_half_closed_client(lab):
    _, client = lab.pair()
    origin = RawOrigin(lab)
    request, line = forward(b"GET")(origin.port)
    origin.reset((line + b"\r\n", OK), (line + b"\r\n", OK))
    with connect(client) as sock:
        sock.sendall(request * 2)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == OK * 2


def test_kept_stream_that_ended(lab):
    """The origin closes a kept-alive connection: the next request gets a new one, whether it had heard of it or not."""
    _, client = lab.pair()
    origin = RawOrigin(lab)
    request, line = forward(b"GET")(origin.port)
    with connect(client) as sock:
        for _ in range(20):
            origin.reset((line + b"\r\n", OK), (line + b"\r\n", None), (line + b"\r\n", OK))
            sock.sendall(request)
            assert apps.receive_exactly(sock, len(OK)) == OK
            sock.sendall(request)
            assert apps.receive_exactly(sock, len(OK)) == OK
            origin.reset()


def test_long_bodies_both_ways_at_once(lab):
    """An origin that answers while it reads, and sides that stop reading in turn, with bodies beyond every buffer."""
    _, client = lab.pair()

    async def mirror(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        left = SIZE
        while left > 0:
            data = await reader.read(1 << 16)
            if not data:
                return
            left -= len(data)
            writer.write(data)
            await writer.drain()
        await reader.read()

    SIZE = 24 << 20
    origin = lab.origin(mirror)
    request, _ = forward(b"POST", b"Content-Length: %d\r\n" % SIZE)(origin.port)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE
    block = bytes(range(256)) * 4096

    async def run():
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1 << 16)
        writer.write(request)

        async def send():
            for _ in range(SIZE // len(block)):
                writer.write(block)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        assert await reader.readexactly(len(head)) == head
        for _ in range(SIZE // len(block)):
            assert await reader.readexactly(len(block)) == block
        await sending
        writer.close()

    asyncio.run(asyncio.wait_for(run(), 60 * SLOWNESS))


# name: (bytes, status)
REFUSED = {
    "origin form": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "https": (b"GET https://a.test/ HTTP/1.0\r\n\r\n", 501),
    "ftp": (b"GET ftp://a.test/ HTTP/1.0\r\n\r\n", 501),
    "another Host": (b"GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", 400),
    "another port in Host": (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test:81\r\n\r\n", 400),
    "two Hosts": (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400),
    "no Host": (b"GET http://a.test/ HTTP/1.1\r\n\r\n", 400),
    "bare LF": (b"GET http://a.test/ HTTP/1.1\nHost: a.test\n\n", 400),
    "bare LF in the fields": (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\nX: 1\r\n\r\n", 400),
    "bare CR": (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: 1\rY: 2\r\n\r\n", 400),
    "folding": (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n 2\r\n\r\n", 400),
    "space before the colon": (b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length : 1\r\n\r\nx", 400),
    "two lengths": (b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    "a list of lengths": (b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1, 1\r\n\r\nx", 400),
    "length and chunks": (b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n" + CHUNKED + b"\r\nx", 400),
    "another coding": (b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\nx", 501),
    "chunks in HTTP/1.0": (b"POST http://a.test/ HTTP/1.0\r\nHost: a.test\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "user and password": (b"GET http://a:b@a.test/ HTTP/1.0\r\n\r\n", 400),
    "NUL": (b"GET http://a.test/\0 HTTP/1.0\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a long target": (b"GET http://a.test/" + b"a" * 9000, 414),
    "a long head": (b"GET http://a.test/ HTTP/1.0\r\nX: " + b"a" * 17000, 431),
    "many fields": (b"GET http://a.test/ HTTP/1.0\r\n" + b"X: 1\r\n" * 101 + b"\r\n", 431),
}
BAD_CHUNKS = [b"5\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
              b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n",
              b"5;a\nb\r\nhello\r\n0\r\n\r\n", b"0\r\nbad trailer: 1\r\n\r\n"]


@pytest.mark.sanitizers
def test_refused_requests(lab):
    """Refused, the connection closed, and the request behind it not read."""
    _, client = lab.pair()
    for name, (request, status) in REFUSED.items():
        with connect(client) as sock:
            sock.sendall(request + b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
            answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 %d " % status), (name, answer)
        assert b"Connection: close\r\n" in answer and answer.count(b"\nHTTP/1.1 ") == 0, (name, answer)
        assert len(answer) < 500, name
    origin = RawOrigin(lab)
    smuggled, _ = forward(b"GET")(origin.port)
    for body in BAD_CHUNKS:
        origin.reset()
        request, _ = forward(b"POST", CHUNKED, body)(origin.port)
        with connect(client) as sock:
            sock.sendall(request + smuggled)
            answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 400 "), (body, answer)
        wait_until(lambda: origin.origin.open == 0, what="the origin's connection to end")
        assert all(b"GET" not in connection for connection in origin.connections), body
    # Truncated and then left, and garbage of other protocols: closed, nobody hurt.
    for garbage in (b"\x16\x03\x01\x02\x00", b"\x05\x00", b"\x04\x02\x00\x50\x7f\0\0\1\0", b"\x00", b"\r\n"):
        with connect(client) as sock:
            sock.sendall(garbage)
            read_all(sock)
    assert client.process.running()


@pytest.mark.sanitizers
def test_credentials(lab):
    server = lab.server()
    client = lab.client(server.port, config=server.config, listen="proxy://user:p%3Ass@127.0.0.1:{port}")
    origin = RawOrigin(lab)
    good = b"Proxy-Authorization: basic dXNlcjpwOnNz\r\n"  # user:p:ss
    with connect(client) as sock:
        for field in (b"", b"Proxy-Authorization: Basic dXNlcjp4\r\n", b"Proxy-Authorization: Bearer dXNlcjpwOnNz\r\n"):
            request, _ = forward(b"GET", field)(origin.port)
            sock.sendall(request)
            answer = apps.receive_exactly(sock, 13)
            while b"password\n" not in answer:
                answer += sock.recv(1024)
            assert answer.startswith(b"HTTP/1.1 407 ") and b"Proxy-Authenticate: Basic realm=" in answer
        request, line = forward(b"GET", good)(origin.port)
        origin.reset((line + b"\r\n", OK))
        sock.sendall(request)
        assert apps.receive_exactly(sock, len(OK)) == OK
    with connect(client) as sock:  # SOCKS4 cannot say a password
        sock.sendall(b"\x04\x01" + origin.port.to_bytes(2, "big") + b"\x7f\0\0\x01user\0")
        assert read_all(sock) == b"\x00\x5d" + bytes(6)
    with connect(client) as sock:
        sock.sendall(b"\x05\x01\x00")
        assert read_all(sock) == b"\x05\xff"


@pytest.mark.protocol("legacy")
def test_failures_over_legacy(lab):
    """A target that refuses, one that is denied, a name that does not exist: as much as the legacy channel tells."""
    _, client = lab.pair()
    closed = free_port()
    with connect(client) as sock:
        for _ in range(2):  # and the connection goes on
            request, _ = forward(b"GET")(closed)
            sock.sendall(request)
            answer = b""
            while not answer.endswith(b"reached\n"):
                answer += sock.recv(1024)
            assert answer.startswith(b"HTTP/1.1 502 ")
    for target in (f"127.0.0.1:{closed}", "169.254.169.254:80", "no-such-name.invalid:80"):
        with connect(client) as sock:
            sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert read_all(sock).startswith(b"HTTP/1.1 502 ")
        host, port = target.split(":")
        with pytest.raises(apps.Refused, match="reply 4"):
            apps.socks5(client.port, host, int(port))
    with connect(client) as sock:
        sock.sendall(b"\x04\x01" + closed.to_bytes(2, "big") + b"\x7f\0\0\x01\0")
        assert read_all(sock) == b"\x00\x5b" + bytes(6)


@pytest.mark.protocol("native")
def test_failures(lab):
    """The same over mux/2, which tells them apart."""
    _, client = lab.pair()
    closed = free_port()
    with connect(client) as sock:
        for _ in range(2):  # and the connection goes on
            request, _ = forward(b"GET")(closed)
            sock.sendall(request)
            answer = b""
            while not answer.endswith(b"the target refused the connection\n"):
                answer += sock.recv(1024)
            assert answer.startswith(b"HTTP/1.1 502 ")
    for target, status, reply in ((f"127.0.0.1:{closed}", 502, 5), ("169.254.169.254:80", 403, 2),
                                  ("no-such-name.invalid:80", 502, 4)):
        with connect(client) as sock:
            sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert read_all(sock).startswith(b"HTTP/1.1 %d " % status)
        host, port = target.split(":")
        with pytest.raises(apps.Refused, match=f"reply {reply}"):
            apps.socks5(client.port, host, int(port))
    with connect(client) as sock:
        sock.sendall(b"\x04\x01" + closed.to_bytes(2, "big") + b"\x7f\0\0\x01\0")
        assert read_all(sock) == b"\x00\x5b" + bytes(6)


def test_drain_waits_for_an_answer(lab):
    """SIGTERM in the middle of an answer: it is delivered to its end."""
    _, client = lab.pair()
    go = []

    async def slow(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        event = asyncio.Event()
        go.append(event)  # before the test can see an answer
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await writer.drain()
        await event.wait()
        writer.write(b"cd")
        await writer.drain()
        await reader.read()

    origin = lab.origin(slow)
    request, _ = forward(b"GET")(origin.port)
    with connect(client) as sock:
        sock.sendall(request)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"
        assert apps.receive_exactly(sock, len(head)) == head
        client.process.terminate()

        def refuses():
            try:
                socket.create_connection(("127.0.0.1", client.port), 1).close()
                return False
            except OSError:
                return True

        wait_until(refuses, what="the listener to close")
        origin.call(go[0].set)
        assert apps.receive_exactly(sock, 2) == b"cd"
        assert client.process.wait(10) == 0


@pytest.mark.one_backend
def test_no_channel(lab):
    """Nothing answers at the server's port: every protocol is told in its own way once the waiting is over."""
    client = lab.client(free_port(), config=lab.server(port=free_port()).config, up=False)
    target = b"GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: 127.0.0.1:9\r\nConnection: close\r\n\r\n"
    expected = {
        b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\x01\0\x09": b"\x05\x00\x05\x01\x00\x01" + bytes(6),
        b"\x04\x01\0\x09\x7f\0\0\x01\0": b"\x00\x5b" + bytes(6),
        target: b"HTTP/1.1 502 Bad Gateway\r\n",
        b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n": b"HTTP/1.1 502 Bad Gateway\r\n",
    }
    sockets = {request: connect(client) for request in expected}
    for request, sock in sockets.items():
        sock.settimeout(25 * SLOWNESS)
        sock.sendall(request)
    for request, sock in sockets.items():
        with sock:
            answer = read_all(sock)
            assert answer.startswith(expected[request]), (request, answer)
            assert b"tunnel is not connected" in answer or not answer.startswith(b"HTTP")
