"""Ordinary programs over mux/2, whose channel is cut in the middle of what they do: none of them notices."""

import asyncio
import hashlib
import http.client
import subprocess

import pytest
import websockets

import apps
from origins import banner, pattern
from peers import start_sshd
from waiting import SLOWNESS, wait_until
from web_origin import WebOrigin, body_of, checksum

pytestmark = pytest.mark.protocol("native")


class Path:
    """A server, and a client whose one channel can be cut."""

    def __init__(self, lab):
        self.server = lab.server()
        self.relay = lab.relay(self.server.port)
        self.client = lab.client(self.relay.port, config=self.server.config)
        self._cuts = 0

    @property
    def port(self):
        return self.client.port

    def cut(self):
        """Returns while there is no channel, or another one."""
        self._cuts += 1
        self.client.process.wait_log(r"channel 1 up:", count=self._cuts)
        self.relay.cut()
        self.client.process.wait_log(r"channel 1 down:", count=self._cuts)

    def check(self):
        assert self.client.process.counters()["streams_moved"] > 0
        for process in (self.client.process, self.server.process):
            wait_until(lambda process=process: process.counters()["streams_open"] == 0, what="no stream left")


@pytest.fixture
def path(lab):
    return Path(lab)


async def digest(reader, writer):
    """Answers when the other side has ended: its end has to arrive, and must not end the answer."""
    whole = hashlib.sha256()
    while data := await reader.read(1 << 18):
        whole.update(data)
    writer.write(whole.hexdigest().encode())
    await writer.drain()


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_half_close(lab, path, kind):
    """ncat ends its direction with its input, and waits for the answer."""
    origin = lab.origin(digest)
    data = pattern(3, 1 << 20).tobytes()
    ncat = subprocess.Popen(["ncat", "--proxy", f"127.0.0.1:{path.port}", "--proxy-type", kind, "127.0.0.1",
                             str(origin.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ncat.stdin.write(data[:1000])
    ncat.stdin.flush()
    wait_until(lambda: origin.open == 1, what="the stream to be open")
    path.cut()
    ncat.stdin.write(data[1000:])
    answer, _ = ncat.communicate(timeout=60 * SLOWNESS)
    assert answer.decode() == hashlib.sha256(data).hexdigest()
    assert ncat.returncode == 0
    path.check()


def test_half_close_by_the_target(lab, path):
    """The target ends first and goes on reading."""
    received = bytearray()

    async def ends_first(reader, writer):
        writer.write(b"all there is")
        writer.write_eof()
        while data := await reader.read(1 << 18):
            received.extend(data)

    origin = lab.origin(ends_first)
    data = pattern(4, 1 << 20).tobytes()
    with apps.socks5(path.port, "127.0.0.1", origin.port) as sock:
        assert apps.receive_exactly(sock, 12) == b"all there is"
        assert sock.recv(1) == b""
        sock.sendall(data[:1000])
        path.cut()
        sock.sendall(data[1000:])
    wait_until(lambda: received == data, timeout=30, what="the rest to arrive")
    path.check()


def test_server_speaks_first(lab, path):
    origin = lab.origin(banner)
    with apps.socks5(path.port, "127.0.0.1", origin.port) as sock:
        assert apps.receive_exactly(sock, 16) == b"SSH-2.0-origin\r\n"
        path.cut()
        sock.sendall(b"hello")
        assert apps.receive_exactly(sock, 5) == b"hello"
    path.check()


def test_http_keep_alive(lab, path):
    """Requests on one connection, and a body that is cut in its middle."""
    web = lab.keep(WebOrigin())
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60 * SLOWNESS)
    connection.sock = apps.socks5(path.port, "127.0.0.1", web.port)
    connection.sock.settimeout(60 * SLOWNESS)
    for size in (10, 20_000_000, 10):
        connection.request("GET", f"/bytes/{size}")
        answer = connection.getresponse()
        body = answer.read(5)
        path.cut()
        body += answer.read()
        assert checksum([body]) == checksum(body_of(size))
    connection.close()
    assert web.accepted == 1
    path.check()


def test_websocket_in_the_tunnel(lab, path):
    web = lab.keep(WebOrigin())

    async def exchange():
        sock = apps.socks5(path.port, "127.0.0.1", web.port)
        sock.setblocking(False)
        async with websockets.connect(f"ws://127.0.0.1:{web.port}/echo", compression=None, max_size=None,
                                      sock=sock) as socket:
            for message in ("before", "x" * 100, "after"):
                await socket.send(message)
                path.cut()
                assert await asyncio.wait_for(socket.recv(), 60 * SLOWNESS) == message

    asyncio.run(exchange())
    path.check()


def test_ssh(lab, path, tmp_path):
    """An interactive session goes on."""
    sshd = start_sshd(lab, tmp_path)
    ssh = subprocess.Popen(sshd.ssh(path.port, "socks5", "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for line in (b"before\n", b"while it is cut\n", b"after\n"):
        ssh.stdin.write(line)
        ssh.stdin.flush()
        assert ssh.stdout.readline() == line
        path.cut()
    rest, _ = ssh.communicate(timeout=60 * SLOWNESS)
    assert rest == b"" and ssh.returncode == 0
    path.check()
