"""A ws:// server behind programs that end TLS: nginx and HAProxy pass the upgrade on. They have no ECH, so the client
says -fallback."""

import pytest

import apps
from conftest import TOKEN
from fronts import FRONTS, plain_server
from origins import echo
from procs import free_port
from test_transfer import fetch_and_put
from waiting import wait_until


@pytest.mark.parametrize("front", FRONTS)
def test_curl_through_a_front(lab, front, http_origin, blob, tmp_path):
    """100 MB down and 20 MB up, with checksums, over two channels through the front."""
    port = free_port()
    server = plain_server(lab, f"ws://127.0.0.1:{port}/tunnel", token=TOKEN)
    _, tls_port = FRONTS[front](lab, f"127.0.0.1:{port}")
    client = lab.client(tls_port, "-fallback", channels=2)
    client.process.wait_log(r"channel 1 up: .*WITHOUT ECH")
    server.wait_log(r"channel \d+ up: .*plain TCP", count=2)
    origin = f"http://127.0.0.1:{http_origin.port}"
    fetch_and_put(["--socks5-hostname", f"127.0.0.1:{client.port}"], f"{origin}/blob", f"{origin}/up", blob, tmp_path,
                  put_bytes=20_000_000)
    assert "channel 1 down" not in client.process.log()


@pytest.mark.parametrize("front", FRONTS)
def test_front_to_a_unix_socket(lab, front):
    origin = lab.origin(echo)
    path = lab.path("ws.sock")
    plain_server(lab, f"ws://unix:{path}:/tunnel", token=TOKEN)
    _, tls_port = FRONTS[front](lab, f"unix:{path}")
    client = lab.client(tls_port, "-fallback")
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"through the socket")
        assert apps.receive_exactly(sock, 18) == b"through the socket"


@pytest.mark.parametrize("front", FRONTS)
def test_front_refuses_as_the_server_does(lab, front):
    """A wrong token: the server's 401 comes back through the front, and the client says so."""
    port = free_port()
    plain_server(lab, f"ws://127.0.0.1:{port}/tunnel", token=TOKEN)
    _, tls_port = FRONTS[front](lab, f"127.0.0.1:{port}")
    client = lab.client(tls_port, "-fallback", token="wrong", up=False)
    client.process.wait_log(r"dial failed: .*401")


@pytest.mark.parametrize("front", FRONTS)
def test_front_restarts(lab, front):
    """The front goes and comes back: channels are lost and dialled again, streams work again."""
    origin = lab.origin(echo)
    port = free_port()
    server = plain_server(lab, f"ws://127.0.0.1:{port}/tunnel", token=TOKEN)
    process, tls_port = FRONTS[front](lab, f"127.0.0.1:{port}")
    client = lab.client(tls_port, "-fallback")
    process.stop()
    client.process.wait_log(r"channel 1 down:")
    FRONTS[front](lab, f"127.0.0.1:{port}", port=tls_port)
    client.process.wait_log(r"channel 1 up:", count=2, timeout=40)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"again")
        assert apps.receive_exactly(sock, 5) == b"again"
    wait_until(lambda: server.counters()["channels_up"] == 1, what="the lost channel to be gone")
