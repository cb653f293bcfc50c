"""Real programs through the proxy listener: curl, proxychains4, ncat, OpenSSH, Chromium."""

import os
import re
import shutil
import subprocess
import threading
import zlib

import pytest

from origins import echo, pattern
from peers import start_sshd
from waiting import SLOWNESS
from web_origin import WebOrigin, body_of, checksum

GIB = 1 << 30
SIZE = 3_000_017
CHECKSUM = checksum(body_of(SIZE))
# How an application reaches the proxy; the first three resolve the name themselves or need an address.
SCHEMES = ["socks4", "socks5", "http", "socks4a", "socks5h"]
# Set while a process runs, so that no setting of the machine's gets in.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"}


def need(program):
    if shutil.which(program) is None and not os.access(f"/usr/sbin/{program}", os.X_OK):
        pytest.fail(f"{program} is not installed: run tools/setup")


def run(*argv, **options):
    result = subprocess.run([str(argument) for argument in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            timeout=60 * SLOWNESS, env=ENVIRONMENT, check=False, **options)
    assert result.returncode == 0, (argv, result.returncode, result.stderr[-1000:])
    return result.stdout


def curl(client, scheme, *arguments, **options):
    return run("curl", "-q", "-sS", "-g", "--max-time", "50", "-x", f"{scheme}://127.0.0.1:{client.port}", *arguments,
               **options)


def peak_mib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) / 1024


@pytest.fixture
def web(lab):
    return lab.keep(WebOrigin())


def test_curl(lab, web, tmp_path):
    """Every protocol of the proxy, CONNECT (-p) among them; each body both ways, in both framings."""
    _, client = lab.pair()
    upload = tmp_path / "upload"
    upload.write_bytes(b"".join(body_of(SIZE)))
    for scheme in [*SCHEMES, "connect"]:
        tunnel = ["-p"] if scheme == "connect" else []
        scheme = "http" if scheme == "connect" else scheme
        host = "localhost" if scheme in ("socks4a", "socks5h", "http") else "127.0.0.1"
        url = f"http://{host}:{web.port}"

        def call(*arguments, scheme=scheme, tunnel=tunnel, **options):
            return curl(client, scheme, *tunnel, *arguments, **options)

        for framing in ("bytes", "chunks"):
            assert zlib.crc32(call(f"{url}/{framing}/{SIZE}")) == CHECKSUM, (scheme, framing)
        head = call("-I", f"{url}/bytes/{SIZE}").decode()
        assert f"Content-Length: {SIZE}" in head.splitlines(), (scheme, head)
        put = call("-T", upload, f"{url}/put").decode()
        assert put == f"PUT length {SIZE} {CHECKSUM}", scheme
        put = call("-T", upload, "-H", "Expect: 100-continue", "-H", "Content-Type: x", f"{url}/put", "-v").decode()
        assert put == f"PUT length {SIZE} {CHECKSUM}", scheme
        assert any(b"Expect: 100-continue\r\n" in head for head in web.heads)
        post = call("-H", "Transfer-Encoding: chunked", "--data-binary", f"@{upload}", f"{url}/post").decode()
        assert post == f"POST chunked {SIZE} {CHECKSUM}", scheme
        # Several requests on one connection of curl's.
        accepted = web.accepted
        three = call(f"{url}/bytes/10", f"{url}/chunks/10", f"{url}/bytes/10")
        assert three == pattern(0, 10).tobytes() * 3 and web.accepted == accepted + 1, scheme
    assert not any(b"proxy-" in head.lower() for head in web.heads)


def test_curl_keeps_going_to_the_right_origin(lab):
    """One connection to the proxy, two origins in turn."""
    _, client = lab.pair()
    one, two = lab.keep(WebOrigin()), lab.keep(WebOrigin())
    urls = [f"http://127.0.0.1:{origin.port}/bytes/{size}" for size, origin in enumerate((one, two, one, two), 1)]
    assert len(curl(client, "http", *urls)) == 1 + 2 + 3 + 4
    assert [head.split(b" ")[1] for head in one.heads] == [b"/bytes/1", b"/bytes/3"]
    assert [head.split(b" ")[1] for head in two.heads] == [b"/bytes/2", b"/bytes/4"]


def test_gigabyte_bodies(lab, web):
    """1 GiB each way at flat memory: down with a length, up in chunks."""
    server, client = lab.pair()
    proxy = f"http://127.0.0.1:{client.port}"
    url = f"http://127.0.0.1:{web.port}"
    expected = checksum(body_of(GIB))

    download = subprocess.Popen(["curl", "-q", "-sS", "-x", proxy, f"{url}/bytes/{GIB}"], stdout=subprocess.PIPE,
                                env=ENVIRONMENT)
    value = size = 0
    while data := download.stdout.read(1 << 20):
        value = zlib.crc32(data, value)
        size += len(data)
    assert download.wait(10) == 0 and size == GIB and value == expected

    upload = subprocess.Popen(["curl", "-q", "-sS", "-x", proxy, "-T", "-", f"{url}/put"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env=ENVIRONMENT)

    def feed():
        for piece in body_of(GIB):
            upload.stdin.write(piece)
        upload.stdin.close()

    feeding = threading.Thread(target=feed)
    feeding.start()
    answer = upload.stdout.read().decode()
    feeding.join()
    assert upload.wait(10) == 0 and answer == f"PUT chunked {GIB} {expected}"
    assert peak_mib(client.process) < 150 and peak_mib(server.process) < 150


def test_proxychains(lab, web, tmp_path):
    need("proxychains4")
    _, client = lab.pair()
    for kind in ("socks4", "socks5", "http"):
        config = tmp_path / f"{kind}.conf"
        config.write_text(f"strict_chain\nproxy_dns\n[ProxyList]\n{kind} 127.0.0.1 {client.port}\n")
        got = run("proxychains4", "-q", "-f", config, "curl", "-q", "-sS", f"http://127.0.0.1:{web.port}/bytes/{SIZE}")
        assert zlib.crc32(got) == CHECKSUM, kind


def test_ncat_with_credentials(lab):
    server = lab.server()
    client = lab.client(server.port, config=server.config, listen="proxy://user:pa%40ss@127.0.0.1:{port}")
    origin = lab.origin(echo)
    data = pattern(5, 200_000).tobytes()
    for kind in ("socks5", "http"):
        ncat = subprocess.Popen(
            ["ncat", "--proxy", f"127.0.0.1:{client.port}", "--proxy-type", kind, "--proxy-auth", "user:pa@ss",
             "127.0.0.1", str(origin.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT)
        try:
            writing = threading.Thread(target=lambda child=ncat: (child.stdin.write(data), child.stdin.flush()))
            writing.start()
            assert ncat.stdout.read(len(data)) == data, kind
            writing.join()
        finally:
            ncat.kill()
            ncat.wait()
    for kind, password in (("socks5", "wrong"), ("http", "wrong"), ("socks4", "user")):
        refused = subprocess.run(
            ["ncat", "--proxy", f"127.0.0.1:{client.port}", "--proxy-type", kind, "--proxy-auth", f"user:{password}",
             "127.0.0.1", str(origin.port)], stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT, check=False,
            timeout=20 * SLOWNESS)
        assert refused.returncode != 0, kind
    assert origin.accepted == 2


def test_openssh(lab, tmp_path):
    """sshd speaks first; the session carries a megabyte each way, once by SOCKS5 and once by CONNECT."""
    need("sshd")
    _, client = lab.pair()
    sshd = start_sshd(lab, tmp_path)
    data = pattern(9, 1 << 20).tobytes()
    for kind in ("socks5", "http"):
        assert run(*sshd.ssh(client.port, kind, "cat"), input=data) == data, kind


def test_chromium(lab, tmp_path):
    """A page, what it fetches, and a WebSocket, through SOCKS5 and through the HTTP proxy (which Chromium asks with
    CONNECT for the WebSocket), both at once."""
    need("chromium")
    _, client = lab.pair()
    browsers = []
    for kind in ("socks5", "http"):
        web = lab.keep(WebOrigin())
        profile = tmp_path / kind
        browsers.append((kind, web, subprocess.Popen(
            ["timeout", "60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
             f"--proxy-server={kind}://127.0.0.1:{client.port}", "--proxy-bypass-list=<-loopback>", "--timeout=30000",
             "--dump-dom", f"http://127.0.0.1:{web.port}/page"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**ENVIRONMENT, "HOME": str(tmp_path)})))
    for kind, web, browser in browsers:
        page = browser.communicate(timeout=70)[0].decode()
        assert re.search(r"<p id=.fetched.>fetched as well</p>", page), (kind, page)
        assert re.search(r"<p id=.echoed.>echoed: through the tunnel</p>", page), (kind, page)
        assert any(head.startswith(b"GET /echo") for head in web.heads), kind
