"""The main job with the programs people use: curl and ncat, through each kind of listener."""

import hashlib
import socket
import subprocess

import pytest

import apps
from origins import Collector, answer_and_close, echo, pattern
from procs import free_port
from waiting import SLOWNESS, wait_until


def curl(*arguments):
    result = subprocess.run(["curl", "--silent", "--show-error", "--fail", "--noproxy", "", "--max-time", "120",
                             *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=150,
                            check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def fetch_and_put(options, down, up, blob, folder, put_bytes=None):
    """`blob` down and its first `put_bytes` bytes (all of it) up, by curl, with checksums."""
    fetched = folder / "fetched"
    curl(*options, "-o", fetched, down)
    assert sha256(fetched.read_bytes()) == sha256(blob)
    fetched.unlink()
    put(options, up, blob[:put_bytes], folder)


def put(options, url, data, folder):
    part = folder / "part"
    part.write_bytes(data)
    assert curl(*options, "-T", part, url).decode() == sha256(data)


ENTRIES = ["socks5", "socks5-hostname", "connect", "forward"]


def entry(lab, name, origin_port):
    """A pair of processes, curl's options for it, and the authority to ask for."""
    listen = f"tcp://127.0.0.1:{{port}}/127.0.0.1:{origin_port}" if name == "forward" else None
    _, client = lab.pair(listen=listen, channels=2)
    proxy = f"127.0.0.1:{client.port}"
    options = {"socks5": ["--socks5", proxy], "socks5-hostname": ["--socks5-hostname", proxy],
               "connect": ["--proxytunnel", "-x", f"http://{proxy}"], "forward": []}[name]
    return client, options, proxy if name == "forward" else f"127.0.0.1:{origin_port}"


@pytest.mark.parametrize("name", ENTRIES)
def test_curl_100_mb_down_and_up(lab, name, http_origin, blob, tmp_path):
    _, options, authority = entry(lab, name, http_origin.port)
    fetch_and_put(options, f"http://{authority}/blob", f"http://{authority}/up", blob, tmp_path)


@pytest.mark.sanitizers
@pytest.mark.parametrize("name", ["socks5", "connect", "forward"])
def test_curl_10_mb_up(lab, name, http_origin, blob, tmp_path):
    _, options, authority = entry(lab, name, http_origin.port)
    put(options, f"http://{authority}/up", blob[:10_000_000], tmp_path)


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_ncat(lab, kind):
    """ncat keeps its input open until the answer has come: the legacy protocol has no half-close."""
    origin = lab.origin(echo)
    _, client = lab.pair()
    ncat = subprocess.Popen(["ncat", "--proxy", f"127.0.0.1:{client.port}", "--proxy-type", kind, "127.0.0.1",
                             str(origin.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        ncat.stdin.write(b"through ncat\n")
        ncat.stdin.flush()
        assert ncat.stdout.readline() == b"through ncat\n"
        ncat.stdin.close()
        ncat.wait(15 * SLOWNESS)
    finally:
        ncat.kill()
        ncat.wait()
        ncat.stdout.close()
    wait_until(lambda: origin.open == 0, what="the origin's connection to end")


@pytest.mark.sanitizers
def test_every_byte_before_a_close_arrives(lab):
    """Both ways: an origin that answers and closes, an application that sends and closes."""
    answers, collector = lab.origin(answer_and_close), Collector()
    collects = lab.origin(collector)
    _, client = lab.pair()

    with apps.socks5(client.port, "127.0.0.1", answers.port) as sock:
        sock.sendall(b"go\n")
        data = b""
        while part := sock.recv(1 << 18):
            data += part
        assert data == bytes(pattern(1, 1 << 20))

    sock = apps.socks5(client.port, "127.0.0.1", collects.port)
    sock.sendall(pattern(2, 1 << 20))
    sock.close()
    wait_until(lambda: collector.received, what="the upload to end")
    assert collector.received == [bytes(pattern(2, 1 << 20))]


def test_several_listeners_in_one_process(lab, http_origin, blob):
    origin = lab.origin(echo)
    second = lab.origin(answer_and_close)
    ports = [free_port() for _ in range(3)]
    _, client = lab.pair("-l", f"tcp://127.0.0.1:{ports[0]}/127.0.0.1:{origin.port},"
                         f"127.0.0.1:{ports[1]}/127.0.0.1:{second.port}", "-l", f"proxy://127.0.0.1:{ports[2]}")
    client.process.wait_log(r"listening on", count=3)
    for port in (client.port, ports[2]):
        with apps.socks5(port, "127.0.0.1", origin.port) as sock:
            sock.sendall(b"one")
            assert apps.receive_exactly(sock, 3) == b"one"
    with socket.create_connection(("127.0.0.1", ports[0]), 10) as sock:
        sock.sendall(b"two")
        assert apps.receive_exactly(sock, 3) == b"two"
    with socket.create_connection(("127.0.0.1", ports[1]), 10) as sock:
        sock.sendall(b"three\n")
        assert apps.receive_exactly(sock, 1 << 20) == bytes(pattern(1, 1 << 20))


def test_proxy_with_password(lab):
    origin = lab.origin(echo)
    _, client = lab.pair(listen="proxy://user:pass@127.0.0.1:{port}")
    for arguments, code in ((["--socks5-hostname", f"user:pass@127.0.0.1:{client.port}"], None),
                            (["--socks5-hostname", f"user:wrong@127.0.0.1:{client.port}"], 97),
                            (["--socks5-hostname", f"127.0.0.1:{client.port}"], 97),
                            (["-p", "-x", f"http://user:wrong@127.0.0.1:{client.port}"], 56),
                            (["-p", "-x", f"http://127.0.0.1:{client.port}"], 56)):
        result = subprocess.run(["curl", "-sS", "--noproxy", "", "--max-time", "2", *arguments,
                                 f"telnet://127.0.0.1:{origin.port}"], stdin=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, timeout=30, check=False)
        if code is None:
            assert origin.accepted == 1, result.stderr
        else:
            assert result.returncode == code, (arguments, result.stderr)
    assert origin.accepted == 1


@pytest.mark.sanitizers
def test_targets_that_cannot_be_reached(lab):
    """Nobody listens; a name that does not exist. The application hears of it, the channel lives on."""
    origin = lab.origin(echo)
    _, client = lab.pair()
    for connect in (apps.socks5, apps.http_connect):
        for host in ("127.0.0.1", "does-not-exist.invalid"):
            try:
                with connect(client.port, host, free_port(), timeout=20) as sock:
                    assert apps.ends(sock)
            except apps.Refused:
                pass
    with apps.http_connect(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"still here")
        assert apps.receive_exactly(sock, 10) == b"still here"
    assert len(client.process.wait_log(r"channel \d+ up:")) == 1


def test_loopback_targets_are_denied_by_default(lab):
    """Also by name and in other spellings; the origin never sees a connection."""
    origin = lab.origin(echo)
    server = lab.server(allow=False)
    client = lab.client(server.port, config=server.config)
    for host in ("127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254"):
        try:
            with apps.socks5(client.port, host, origin.port) as sock:
                assert apps.ends(sock)
        except apps.Refused:
            pass
    assert origin.accepted == 0
