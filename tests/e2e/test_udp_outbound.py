"""UDP of a server that goes out through a SOCKS5 proxy (-f socks5://)."""

import pytest

import apps
import udp
import ws
from conftest import TOKEN
from origins import echo as tcp_echo
from socks_proxies import DANTED, SocksProxy, start_danted, start_microsocks
from waiting import wait_until


def pair(lab, url, *server_extra):
    server, client = lab.pair(server_extra=("-f", url, *server_extra))
    return server.process, client


def start_proxy(lab, name):
    if name == "danted":
        return f"socks5://127.0.0.1:{start_danted(lab)[1]}"
    _, inner = lab.pair(listen="proxy://us%40er:p%3Aass@127.0.0.1:{port}")
    return f"socks5://us%40er:p%3Aass@127.0.0.1:{inner.port}"


@pytest.mark.parametrize("name", [DANTED, "our own"])
def test_many_targets(lab, name):
    """500 datagrams in bursts to 10 targets, each answered by the right one; a name that the proxy resolves."""
    echo = lab.keep(udp.Echo(10))
    server, client = pair(lab, start_proxy(lab, name), "-allow-target", "localhost")
    with udp.Association(client.port) as association:
        for burst in range(10):
            sent = {(echo.ports[i % 10], b"%d|%d" % (echo.ports[i % 10], 50 * burst + i)) for i in range(50)}
            for i in range(50):
                association.send("127.0.0.1", echo.ports[i % 10], b"%d" % (50 * burst + i))
            assert {(port, payload) for (_, port), payload in (association.receive() for _ in range(50))} == sent
        assert association.ask("localhost", echo.port, b"by name")[1] == b"%d|by name" % echo.port
        for size in (1200, 9000, 40000):
            assert association.ask("127.0.0.1", echo.port, b"x" * size)[1] == b"%d|" % echo.port + b"x" * size
    assert server.counters()["outbound_proxy_failures"] == 0
    wait_until(lambda: server.counters()["associations_open"] == 0, what="the end of all associations")


@pytest.mark.sanitizers
def test_proxy_without_udp(lab):
    """UDP_ERROR with a reason; streams go on through the same proxy."""
    _, port = start_microsocks(lab)
    origin = lab.origin(tcp_echo)
    server = lab.server("-f", f"socks5://127.0.0.1:{port}")
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        association = b"00000000-0000-4000-8000-000000000000"
        channel.send(ws.TEXT, b"UDP_CONNECT:" + association + b"|127.0.0.1:53")
        channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|x")
        kind, message = channel.receive()
        assert kind == ws.TEXT and message.startswith(b"UDP_ERROR:" + association + b"|"), message
        assert server.process.counters()["associations_open"] == 0
        stream = b"00000000-0000-4000-8000-000000000001"
        channel.send(ws.TEXT, b"TCP:" + stream + b"|127.0.0.1:%d|hello" % origin.port)
        assert channel.receive() == (ws.TEXT, b"CONNECTED:" + stream)
        assert channel.receive() == (ws.BINARY, b"DATA:" + stream + b"|hello")


@pytest.mark.sanitizers
def test_policy_is_asked_before_the_proxy(lab):
    proxy = lab.keep(SocksProxy())
    server, client = pair(lab, f"socks5://127.0.0.1:{proxy.port}", "-deny-target", "secret.test,10.0.0.0/8")
    with udp.Association(client.port) as association:
        for host in ("169.254.169.254", "10.1.2.3", "secret.test", "localhost"):
            association.send(host, 53, b"x")
        wait_until(lambda: server.counters()["targets_denied"] == 4, what="all to be denied")
    assert proxy.connections == 0


def test_proxy_lost_and_back(lab):
    echo = lab.keep(udp.Echo())
    _, inner = lab.pair()
    relay = lab.relay(inner.port)
    _, client = pair(lab, f"socks5://127.0.0.1:{relay.port}")
    with udp.Association(client.port) as association:
        assert association.ask("127.0.0.1", echo.port, b"before")[1] == b"%d|before" % echo.port
        relay.cut()
        wait_until(lambda: inner.process.counters()["associations_open"] == 0, what="the proxy's relay to end")
        assert association.ask("127.0.0.1", echo.port, b"after")[1] == b"%d|after" % echo.port


def test_unix_socket_listeners_have_no_udp(lab):
    """A relay on loopback would be open to those whom the socket's permissions keep out."""
    path = lab.path("proxy.sock")
    lab.pair(listen=f"proxy://unix:{path}")
    with udp.socket.socket(udp.socket.AF_UNIX) as control:
        control.settimeout(15)
        control.connect(str(path))
        control.sendall(b"\x05\x01\x00")
        assert apps.receive_exactly(control, 2) == b"\x05\x00"
        control.sendall(b"\x05\x03\x00" + udp.address("0.0.0.0", 0))
        assert apps.receive_exactly(control, 4)[1] == 7
        assert apps.ends(control)
