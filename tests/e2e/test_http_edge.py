"""What the server's port answers to those who are no client of it."""

import select
import socket
import subprocess
import threading
import time

import pytest

import apps
import ws
from conftest import TOKEN
from origins import echo
from waiting import SLOWNESS, wait_until


@pytest.mark.sanitizers
def test_refusals(lab):
    """In the order of the legacy protocol: path, source, token, upgrade."""
    server = lab.server()
    ca = lab.pki.ca

    def status(*arguments, **options):
        return ws.request(ca, server.port, ws.upgrade_head(*arguments, **options))

    assert status("/other", token="wrong")[0] == 404
    assert status("/tunnel/more", token=TOKEN)[0] == 404
    code, fields = status(token="wrong")
    assert code == 401 and fields["connection"].lower() == "close"
    assert status()[0] == 401
    assert status(token=TOKEN + "x")[0] == 401
    assert status(token=TOKEN[:-1])[0] == 401
    assert status(token=f"chat, {TOKEN}")[0] == 401
    for drop in ("upgrade", "connection", "key", "version"):
        assert status(token=TOKEN, drop=(drop,))[0] == 400, drop
    assert status(token=TOKEN, key="dG9vIHNob3J0")[0] == 400
    code, fields = ws.request(ca, server.port, ws.upgrade_head(token=TOKEN, drop=("version",),
                                                               extra="Sec-WebSocket-Version: 12\n"))
    assert code in (400, 426)
    assert server.process.running()


@pytest.mark.sanitizers
def test_upgrade(lab):
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        assert channel.fields["sec-websocket-protocol"] == TOKEN
        assert "sec-websocket-extensions" not in channel.fields
        channel.send(ws.PING, b"are you there")
        assert channel.receive(kinds=(ws.PONG,)) == (ws.PONG, b"are you there")
        channel.send(ws.CLOSE, (1000).to_bytes(2, "big"))
        assert channel.close_code() == 1000


def test_upgrade_without_a_token(lab):
    server = lab.server(token=None)
    with ws.Channel(lab.pki.ca, server.port) as channel:
        assert "sec-websocket-protocol" not in channel.fields


def test_root_path_matches_every_path(lab):
    server = lab.server(path="/")
    for path in ("/", "/anything", "/any/thing?query"):
        ws.Channel(lab.pki.ca, server.port, TOKEN, path=path).close()


def test_wrong_source(lab):
    server = lab.server("-cidr", "10.0.0.0/8,fd00::/8")
    code, fields = ws.request(lab.pki.ca, server.port, ws.upgrade_head(token=TOKEN))
    assert code == 403 and fields["connection"].lower() == "close"
    assert ws.request(lab.pki.ca, server.port, ws.upgrade_head("/other", token=TOKEN))[0] == 404
    assert ws.request(lab.pki.ca, server.port, ws.upgrade_head(token="wrong"))[0] == 403


def test_client_says_why_it_was_refused(lab):
    server = lab.server()
    client = lab.client(server.port, config=server.config, token="wrong", up=False)
    client.process.wait_log(r"401")


@pytest.mark.parametrize("head", [
    "GET /tunnel HTTP/1.1\nHost: a\nHost: b\n\n",
    "GET /tunnel HTTP/1.1\nHost : a\n\n",
    "GET /tunnel HTTP/1.1\nHost: a\n folded\n\n",
    "GET  /tunnel HTTP/1.1\nHost: a\n\n",
    "GET /tunnel HTTP/1.1\n\n",
    "GET /tunnel HTTP/1.1\nHost: a\nContent-Length: 1\nTransfer-Encoding: chunked\n\n",
    "GET /tunnel HTTP/1.1\nHost: a\nX: \x00\n\n",
    "GET /tunnel HTTP/3.7\nHost: a\n\n",
    "\x16\x03\x01\x02\x00\x01\x00\n\n",
])
@pytest.mark.sanitizers
@pytest.mark.one_backend
def test_malformed_heads(lab, head):
    """Rejected, not repaired: an answer of the 4xx or 5xx kind, or just the end of the connection."""
    server = lab.server()
    try:
        code, _ = ws.request(lab.pki.ca, server.port, head)
        assert 400 <= code < 600
    except (apps.Refused, OSError):
        pass
    ws.Channel(lab.pki.ca, server.port, TOKEN).close()


HEAD_NO_KERNEL_HOLDS = 64 << 20


@pytest.mark.sanitizers
def test_oversized_head(lab):
    """Its size is bounded: the connection ends before more than the kernel's buffers hold was taken."""
    server = lab.server()
    with ws.tls_connect(lab.pki.ca, server.port) as sock:
        sock.sendall(b"GET /tunnel HTTP/1.1\r\nHost: a\r\n")
        sent = 0
        with pytest.raises((OSError, apps.Refused)):
            while sent < HEAD_NO_KERNEL_HOLDS:
                sock.sendall(b"X-Filler: " + b"x" * 8000 + b"\r\n")
                sent += 8012
                if select.select([sock], [], [], 0)[0]:
                    first, _ = ws.read_head(sock)
                    assert first.split()[1] in ("400", "413", "431")
                    raise apps.Refused(first)


def test_slow_heads_and_handshakes_time_out(lab):
    """Silence before the handshake, silence after it, and a head that drips: each ends after about 10 s."""
    server = lab.server()
    lasted = {}

    def measure(name, sock, drip):
        started = time.monotonic()
        sock.settimeout(0.5)
        while time.monotonic() - started < 20:
            try:
                if drip:
                    sock.sendall(b"x")
                if not sock.recv(4096):
                    break
            except socket.timeout:
                continue
            except OSError:
                break
        lasted[name] = time.monotonic() - started
        sock.close()

    dripping = ws.tls_connect(lab.pki.ca, server.port)
    dripping.sendall(b"GET /tunnel HTTP/1.1\r\nHost: a\r\nX: ")
    half_hello = socket.create_connection(("127.0.0.1", server.port), 10)
    half_hello.sendall(bytes.fromhex("16030102000100"))
    threads = [threading.Thread(target=measure, args=arguments) for arguments in (
        ("no handshake", socket.create_connection(("127.0.0.1", server.port), 10), False),
        ("half a handshake", half_hello, False),
        ("no request", ws.tls_connect(lab.pki.ca, server.port), False),
        ("dripping request", dripping, True))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(5 < seconds < 13 for seconds in lasted.values()), lasted


def test_half_open_handshakes_keep_nobody_out(lab):
    """400 connections that never begin a handshake; a client gets its channel and its streams all the same."""
    origin = lab.origin(echo)
    server = lab.server()
    held = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(400)]
    try:
        client = lab.client(server.port, config=server.config)
        with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
            sock.sendall(b"in")
            assert apps.receive_exactly(sock, 2) == b"in"
    finally:
        for sock in held:
            sock.close()
    wait_until(lambda: server.process.counters()["sockets_open"] < 100, what="the half-open connections to be gone")


def test_old_tls_is_refused(lab):
    """TLS 1.3 only."""
    server = lab.server()
    result = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=20 * SLOWNESS, check=False)
    assert result.returncode != 0 and b"Cipher is (NONE)" in result.stdout


def test_require_ech(lab):
    """With -require-ech the tunnel is not there for those who come without."""
    server = lab.server("-require-ech")
    try:
        code, _ = ws.request(lab.pki.ca, server.port, ws.upgrade_head(token=TOKEN))
        assert code == 404
    except (apps.Refused, OSError):
        pass
    lab.client(server.port, config=server.config)
