"""A server that goes out through a SOCKS5 proxy (-f socks5://): real proxies, and one that misbehaves."""

import time

import pytest

import apps
from origins import banner, echo
from procs import free_port
from socks_proxies import DANTED, SocksProxy, needs_dante, start_danted, start_microsocks
from test_transfer import fetch_and_put
from waiting import SLOWNESS, wait_until

PROXIES = [DANTED, "microsocks", "microsocks with password"]


def start_proxy(lab, name):
    """Its URL."""
    if name == "danted":
        return f"socks5://127.0.0.1:{start_danted(lab)[1]}"
    if name == "microsocks":
        return f"socks5://127.0.0.1:{start_microsocks(lab)[1]}"
    return f"socks5://us%40er:p%3Aass@127.0.0.1:{start_microsocks(lab, 'us@er', 'p:ass')[1]}"


def pair(lab, url, *server_extra):
    server, client = lab.pair(server_extra=("-f", url, *server_extra))
    return server.process, client


def roundtrip(client, port, host="127.0.0.1"):
    with apps.socks5(client.port, host, port) as sock:
        sock.sendall(b"out and back")
        assert apps.receive_exactly(sock, 12) == b"out and back"


@pytest.mark.parametrize("name", PROXIES)
def test_curl_out_through(lab, name, http_origin, blob, tmp_path):
    """100 MB down and 20 MB up with checksums; by address, and by a name that the proxy resolves."""
    server, client = pair(lab, start_proxy(lab, name), "-allow-target", "localhost")
    proxy = f"127.0.0.1:{client.port}"
    fetch_and_put(["--socks5-hostname", proxy], f"http://127.0.0.1:{http_origin.port}/blob",
                  f"http://localhost:{http_origin.port}/up", blob, tmp_path, put_bytes=20_000_000)
    log = server.log()
    assert f"out={proxy}" not in log and "p%3Aass" not in log and "p:ass" not in log
    assert server.counters()["outbound_proxy_failures"] == 0


@pytest.mark.sanitizers
def test_names_are_left_to_the_proxy(lab):
    """A name that only the proxy knows; an address goes as an address."""
    origin = lab.origin(echo)
    proxy = lab.keep(SocksProxy(names={"only.proxy.test": "127.0.0.1"}))
    _, client = pair(lab, f"socks5://localhost:{proxy.port}")
    roundtrip(client, origin.port, host="only.proxy.test")
    roundtrip(client, origin.port)
    assert proxy.requests == [(3, "only.proxy.test", origin.port), (1, "127.0.0.1", origin.port)]


@pytest.mark.sanitizers
def test_target_speaks_first(lab):
    """What comes right behind the proxy's reply, in the same segment even, belongs to the stream."""
    origin = lab.origin(banner)
    proxy = lab.keep(SocksProxy())
    _, client = pair(lab, f"socks5://127.0.0.1:{proxy.port}")
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        assert apps.receive_exactly(sock, 16) == b"SSH-2.0-origin\r\n"
    proxy.behave = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00glued to the reply"
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        assert apps.receive_exactly(sock, 18) == b"glued to the reply"


@pytest.mark.sanitizers
def test_proxy_on_a_unix_socket(lab):
    origin = lab.origin(echo)
    path = lab.path("socks.sock")
    proxy = lab.keep(SocksProxy(path=str(path)))
    _, client = pair(lab, f"socks5://unix:{path}")
    roundtrip(client, origin.port)
    assert len(proxy.requests) == 1


def test_through_our_own_proxy(lab):
    """The way out is the proxy:// listener of another pair, with a password: two tunnels in a row."""
    origin = lab.origin(echo)
    _, inner = lab.pair(listen="proxy://us%40er:p%3Aass@127.0.0.1:{port}")
    server, client = pair(lab, f"socks5://us%40er:p%3Aass@127.0.0.1:{inner.port}")
    roundtrip(client, origin.port)
    assert server.counters()["streams_failed"] == 0


@pytest.mark.sanitizers
def test_policy_is_asked_before_the_proxy(lab):
    """Denied by default, by rule of name and by rule of network: the proxy never hears of them."""
    proxy = lab.keep(SocksProxy())
    server = lab.server("-f", f"socks5://127.0.0.1:{proxy.port}", "-deny-target", "secret.test,10.0.0.0/8",
                        allow=False)
    client = lab.client(server.port, config=server.config)
    hosts = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "localhost", "secret.test", "SECRET.test",
             "10.1.2.3"]
    for host in hosts:
        with pytest.raises(apps.Refused):
            apps.socks5(client.port, host, 80).close()
    assert proxy.connections == 0
    assert server.process.counters()["targets_denied"] == len(hosts)


def refused(client, host="target.test", port=80, timeout=20):
    started = time.monotonic()
    with pytest.raises(apps.Refused):
        apps.socks5(client.port, host, port, timeout=timeout).close()
    return time.monotonic() - started


@pytest.mark.sanitizers
@pytest.mark.parametrize("reply,words", [(1, "general failure"), (2, "rules do not allow"), (3, "network unreachable"),
                                         (4, "host unreachable"), (5, "connection refused"), (6, "TTL expired"),
                                         (8, "type of address"), (200, "general failure")])
@pytest.mark.one_backend
def test_proxy_refuses_a_target(lab, reply, words):
    """The application is refused at once, the log says what the proxy said, and the proxy itself is not blamed."""
    proxy = lab.keep(SocksProxy(behave=bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0])))
    server, client = pair(lab, f"socks5://127.0.0.1:{proxy.port}", "-log-level", "debug")
    assert refused(client) < 5 * SLOWNESS
    server.wait_log(rf"target target\.test:80: socks5://127.0.0.1:{proxy.port}: the proxy.*{words}")
    assert server.counters()["outbound_proxy_failures"] == 0
    assert "no way out" not in server.log()


@pytest.mark.sanitizers
@pytest.mark.parametrize("how,words", [
    ("nobody listens", "connection refused"), ("garbage", "does not speak SOCKS5"), ("garbage later", "not SOCKS5"),
    ("closes", "closed the connection"), ("closes later", "closed the connection"), ("password wanted", "without a user"),
    ("unknown name", "proxy.invalid")])
def test_proxy_cannot_be_used(lab, how, words):
    """Each failure is said once at warning level with its reason, is counted, and refuses the application."""
    greet = {"garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n", "closes": "close", "password wanted": b"\x05\xff"}.get(how)
    behave = {"garbage later": b"\x00\x5a\x00\x00", "closes later": "close"}.get(how)
    proxy = lab.keep(SocksProxy(greet=greet, behave=behave))
    url = {"nobody listens": f"socks5://127.0.0.1:{free_port()}",
           "unknown name": "socks5://proxy.invalid:1080"}.get(how, f"socks5://127.0.0.1:{proxy.port}")
    server, client = pair(lab, url)
    for _ in range(3):
        assert refused(client) < 8 * SLOWNESS
    server.wait_log(rf"no way out through {url}: .*{words}")
    assert len([line for line in server.log().splitlines() if "no way out" in line]) == 1
    counters = server.counters()
    assert counters["outbound_proxy_failures"] == 3 and counters["streams_failed"] == 3
    wait_until(lambda: server.counters()["streams_open"] == 0, what="no stream left")
    assert counters["connects_in_progress"] == 0


@pytest.mark.parametrize("stage", ["greeting", "request"])
def test_proxy_hangs(lab, stage):
    """Given up within the limit for connecting, 10 s; meanwhile others go on, and nothing is left."""
    proxy = lab.keep(SocksProxy(**{"greet" if stage == "greeting" else "behave": "hang"}))
    server, client = pair(lab, f"socks5://127.0.0.1:{proxy.port}")
    assert 5 < refused(client, timeout=30) < 14 * SLOWNESS
    server.wait_log(r"no way out through .*timed out")
    assert server.counters()["connects_in_progress"] == 0
    proxy.greet = proxy.behave = None
    origin = lab.origin(echo)
    roundtrip(client, origin.port)


def test_wrong_password(lab):
    _, port = start_microsocks(lab, "user", "right")
    server, client = pair(lab, f"socks5://user:n0t-1t@127.0.0.1:{port}")
    refused(client)
    server.wait_log(r"no way out through socks5://\*\*\*@127.0.0.1:\d+: .*(does not accept|closed)")
    assert "n0t-1t" not in server.log()


@needs_dante
def test_blocked_by_the_rules_of_dante(lab):
    origin = lab.origin(echo)
    blocked = lab.origin(echo)
    _, port = start_danted(lab, blocked_port=blocked.port)
    server, client = pair(lab, f"socks5://127.0.0.1:{port}", "-log-level", "debug")
    refused(client, host="127.0.0.1", port=blocked.port)
    server.wait_log(r"the proxy.*rules do not allow")
    refused(client, host="127.0.0.1", port=free_port())
    server.wait_log(r"the proxy says: connection refused")
    roundtrip(client, origin.port)
    assert blocked.accepted == 0
