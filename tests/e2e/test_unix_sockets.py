"""unix:/path wherever a host and a port may stand: listeners, targets, the address of the server."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import threading

import pytest

import apps
from conftest import TOKEN
from ech_bytes import read_pem_folder
from fronts import plain_server
from origins import echo
from waiting import wait_until
import ws


def connect(path, timeout=15):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(str(path))
    return sock


def ping(sock):
    sock.sendall(b"ping")
    assert apps.receive_exactly(sock, 4) == b"ping"


class UnixEcho:
    """A target on a Unix socket."""

    def __init__(self, path):
        self.path, self.accepted = path, 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._echo, args=(sock,), daemon=True).start()

    @staticmethod
    def _echo(sock):
        with sock:
            try:
                while data := sock.recv(1 << 16):
                    sock.sendall(data)
            except OSError:
                pass

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.path)


@pytest.mark.sanitizers
def test_proxy_listener(lab):
    """curl speaks SOCKS5 to a Unix socket by its own syntax; the file is private and goes with the process."""
    origin = lab.origin(echo)
    path = lab.path("proxy.sock")
    _, client = lab.pair(listen=f"proxy://unix:{path}")
    client.process.wait_log(rf"listening on proxy://unix:{path}$")
    mode = os.lstat(path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    with connect(path) as sock:
        sock.sendall(b"\x05\x01\x00")
        assert apps.receive_exactly(sock, 2) == b"\x05\x00"
        sock.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + origin.port.to_bytes(2, "big"))
        assert apps.receive_exactly(sock, 10)[1] == 0
        ping(sock)
    client.process.terminate()
    assert client.process.wait(10) == 0
    assert not os.path.lexists(path)


def test_proxy_listener_with_curl(lab, http_origin, blob):
    path = lab.path("proxy.sock")
    lab.pair(listen=f"proxy://unix:{path}")
    result = subprocess.run(["curl", "-sS", "--noproxy", "", "--max-time", "60", "--proxy",
                             f"socks5h://localhost{path}", f"http://127.0.0.1:{http_origin.port}/"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=90, check=False)
    if b"nsupported" in result.stderr:
        pytest.skip("this curl has no SOCKS over Unix sockets")
    if result.returncode != 0:  # before 7.84 the path is taken for a URL's
        assert b"resolve" in result.stderr or b"connect" in result.stderr, result.stderr
        pytest.skip("this curl has no SOCKS over Unix sockets")
    assert result.stdout == blob


@pytest.mark.sanitizers
def test_forward_to_and_from_sockets(lab):
    """tcp://unix:/a:/TARGET and tcp://LISTEN/unix:/b, alone and together. The server dials the target."""
    origin = lab.origin(echo)
    paths = [lab.path("listen.sock"), lab.path("both.sock")]
    target = lab.path("target.sock")
    unix_origin = lab.keep(UnixEcho(target))
    rules = (f"tcp://unix:{paths[0]}:/127.0.0.1:{origin.port},127.0.0.1:{{port}}/unix:{target},"
             f"unix:{paths[1]}:/unix:{target}")
    server, client = lab.pair(listen=rules, server_extra=("-allow-target", f"unix:{target}"))
    with connect(paths[0]) as sock:
        ping(sock)
    with socket.create_connection(("127.0.0.1", client.port), 15) as sock:
        ping(sock)
    with connect(paths[1]) as sock:
        ping(sock)
    assert origin.accepted == 1 and unix_origin.accepted == 2
    for process in (client.process, server.process):
        wait_until(lambda: process.counters()["streams_open"] == 0, what="no stream left")


@pytest.mark.sanitizers
def test_target_sockets_are_denied_unless_named(lab):
    """Neither the default nor a rule for everything opens a path; nor can an application name one to the proxy."""
    target = lab.path("target.sock")
    unix_origin = lab.keep(UnixEcho(target))
    server, client = lab.pair("-l", f"proxy://unix:{lab.path('proxy.sock')}",
                              listen=f"tcp://127.0.0.1:{{port}}/unix:{target}",
                              server_extra=("-allow-target", "*", "-allow-target", f"unix:{target}x"))
    try:
        with socket.create_connection(("127.0.0.1", client.port), 15) as sock:
            assert apps.ends(sock)
    except ConnectionResetError:
        pass  # the denial was as quick as connect()
    assert server.process.counters()["targets_denied"] == 1
    assert unix_origin.accepted == 0


@pytest.mark.sanitizers
def test_server_listeners_and_its_address(lab):
    """wss://unix: with -ip unix: at the client, ECH and all; ws://unix: with a path of its own."""
    origin = lab.origin(echo)
    keys = lab.keygen()
    paths = [lab.path("wss.sock"), lab.path("ws.sock")]
    state = lab.path("state")
    state.mkdir()
    server = lab.run("server", "-l", f"wss://unix:{paths[0]}:/tunnel", "-l", f"ws://unix:{paths[1]}:/plain", "-cert",
                     lab.pki.cert, "-key", lab.pki.key, "-ech-keys", keys, "-ech-public-name", "cover.test", "-state",
                     state, "-token", TOKEN, "-allow-target", "127.0.0.0/8:*", "-cidr", "10.0.0.0/8")
    server.wait_log(r"listening on wss?://", count=2)
    client = lab.client(443, "-ip", f"unix:{paths[0]}", config=read_pem_folder(keys), pin_address=False, channels=2)
    client.process.wait_log(rf"channel 1 up: unix:{paths[0]}, .*ECH accepted")
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        ping(sock)
    for path, code in (("/plain", 101), ("/tunnel", 404)):
        with connect(paths[1]) as sock:
            sock.sendall(ws.upgrade_head(path, TOKEN).replace("\n", "\r\n").encode())
            first, _ = ws.read_head(sock)
            assert int(first.split()[1]) == code
    server.terminate()
    assert server.wait(15) == 0
    assert not any(os.path.lexists(path) for path in paths)


def test_connections_are_dealt_out(lab):
    """A Unix socket has one listener, on the first core; all cores serve its connections."""
    origin = lab.origin(echo)
    path = lab.path("ws.sock")
    server = plain_server(lab, f"ws://unix:{path}:/tunnel", "-threads", "3", token=TOKEN)

    async def upgraded():
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(ws.upgrade_head("/tunnel", TOKEN).replace("\n", "\r\n").encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        stream = os.urandom(18).hex().encode()
        writer.write(ws.frame(ws.TEXT, b"TCP:" + stream + b"|127.0.0.1:%d|hello" % origin.port))
        expected = b"CONNECTED:" + stream
        first = await reader.readexactly(2)
        assert await reader.readexactly(first[1]) == expected
        first = await reader.readexactly(2)
        assert await reader.readexactly(first[1]) == b"DATA:" + stream + b"|hello"
        return writer

    async def many():
        writers = await asyncio.gather(*(upgraded() for _ in range(30)))
        assert server.counters()["channels_up"] == 30
        for writer in writers:
            writer.close()

    asyncio.run(asyncio.wait_for(many(), 60))
    wait_until(lambda: server.counters()["channels_up"] == 0, what="the channels to be gone")


def refuses(path):
    try:
        connect(path).close()
        return False
    except ConnectionRefusedError:
        return True


@pytest.mark.one_backend
def test_stale_files_are_replaced_and_living_ones_are_not(lab):
    path = lab.path("ws.sock")
    first = plain_server(lab, f"ws://unix:{path}", token=TOKEN)
    second = lab.run("second", "-l", f"ws://unix:{path}", "-token", TOKEN)
    assert second.wait(10) == 1
    assert f"listen on unix:{path}: address already in use" in second.log()
    connect(path).close()
    first.child.send_signal(signal.SIGKILL)
    first.wait(10)
    first.argv[0] = "killed"  # not an accident
    # io_uring's ring, and the listener in it, may outlive the process by a moment.
    wait_until(lambda: refuses(path), what="the killed process's listener to be gone")
    assert os.path.lexists(path), "what a killed process leaves"
    third = plain_server(lab, f"ws://unix:{path}", token=TOKEN)
    connect(path).close()
    assert third.stop() == 0
    assert not os.path.lexists(path)

    path.write_text("precious")
    fourth = lab.run("fourth", "-l", f"ws://unix:{path}", "-token", TOKEN)
    assert fourth.wait(10) == 1
    assert path.read_text() == "precious"
