"""What a server takes from one source, and what it does when it has enough: an answer or a refusal, counted."""

import socket
import uuid

import pytest

import apps
import ws
from conftest import TOKEN
from fronts import plain_server
from origins import echo
from procs import free_port
from waiting import SLOWNESS, wait_until


@pytest.mark.sanitizers
def test_channels_of_one_source(lab):
    """The third gets 503, those that are up live on, and there is room again when one has gone."""
    server = lab.server("-channels-per-source", "2")
    channels = [ws.Channel(lab.pki.ca, server.port, TOKEN) for _ in range(2)]
    code, fields = ws.request(lab.pki.ca, server.port, ws.upgrade_head(token=TOKEN))
    assert code == 503 and fields["connection"].lower() == "close"
    # Who would be refused anyway learns nothing new.
    assert ws.request(lab.pki.ca, server.port, ws.upgrade_head(token="wrong"))[0] == 401
    assert server.process.counters()["channels_refused"] == 1
    for channel in channels:
        channel.send(ws.PING, b"alive")
        assert channel.receive(kinds=(ws.PONG,)) == (ws.PONG, b"alive")
    channels[0].close()
    wait_until(lambda: server.process.counters()["channels_up"] == 1, what="the channel to be gone")
    channels[0] = ws.Channel(lab.pki.ca, server.port, TOKEN)
    for channel in channels:
        channel.close()


def test_client_that_has_too_many_channels(lab):
    """It says why, backs off, and works over those it has."""
    origin = lab.origin(echo)
    server = lab.server("-channels-per-source", "2")
    client = lab.client(server.port, config=server.config, channels=3, up=False)
    client.process.wait_log(r"channel \d+ up:", count=2)
    client.process.wait_log(r"dial failed: .*503")
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"two are enough")
        assert apps.receive_exactly(sock, 14) == b"two are enough"


def test_sources_behind_a_proxy_are_not_counted(lab):
    """On ws:// every client has the address of what ends TLS."""
    port = free_port()
    server = plain_server(lab, f"ws://127.0.0.1:{port}/tunnel", "-channels-per-source", "1", token=TOKEN)
    held = []
    for _ in range(3):
        sock = socket.create_connection(("127.0.0.1", port), 15)
        sock.sendall(ws.upgrade_head(token=TOKEN).replace("\n", "\r\n").encode())
        assert ws.read_head(sock)[0].split()[1] == "101"
        held.append(sock)
    assert server.counters()["channels_up"] == 3
    for sock in held:
        sock.close()


def test_connects_in_progress(lab):
    """1,024 on one core to a host that does not answer; a further one is refused at once, and its channel lives."""
    # A listener whose queue is full drops what knocks: connecting to it hangs as to a host behind a silent firewall.
    hole = socket.socket()
    hole.bind(("127.0.0.1", 0))
    hole.listen(0)
    fill = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(hole.getsockname())
        fill.append(sock)
    server = lab.server("-threads", "1")
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        request = b"|127.0.0.1:%d|" % hole.getsockname()[1]
        for _ in range(1024):
            channel.send(ws.TEXT, b"TCP:" + str(uuid.uuid4()).encode() + request)
        wait_until(lambda: server.process.counters()["connects_in_progress"] >= 1000, what="connects in progress")
        refused = set()
        for _ in range(50):
            stream = str(uuid.uuid4()).encode()
            channel.send(ws.TEXT, b"TCP:" + stream + request)
            refused.add(b"CLOSE:" + stream)
        answers = {channel.receive()[1] for _ in range(26)}
        assert answers <= refused or len(answers & refused) >= 20
        assert server.process.counters()["connects_in_progress"] <= 1024
        channel.send(ws.PING, b"alive")
        assert channel.receive(kinds=(ws.PONG,)) == (ws.PONG, b"alive")
    for sock in fill:
        sock.close()
    hole.close()
    wait_until(lambda: server.process.counters()["connects_in_progress"] == 0, timeout=20, what="no connect left")


@pytest.mark.one_backend
def test_handshakes_in_progress(lab):
    """4,096 half-open connections on one core; further ones are reset at once, and a channel that is up works on."""
    origin = lab.origin(echo)
    server = lab.server("-threads", "1")
    client = lab.client(server.port, config=server.config)
    held = []

    def knock():
        """Another 500. On a slow machine the first ones are cut off, after ten seconds, before the bound is reached."""
        for _ in range(500):
            try:
                held.append(socket.create_connection(("127.0.0.1", server.port), 15 * SLOWNESS))
            except OSError:  # the reset came before connect() had returned
                pass
        counters = server.process.counters()
        return counters["connections_refused"] > 0 and counters

    try:
        counters = wait_until(knock, timeout=30, what="connections to be refused")
        assert len(held) > 4000
        assert counters["handshakes_in_progress"] <= 4096
        with apps.socks5(client.port, "127.0.0.1", origin.port) as stream:
            stream.sendall(b"still here")
            assert apps.receive_exactly(stream, 10) == b"still here"
    finally:
        for sock in held:
            sock.close()
    wait_until(lambda: server.process.counters()["handshakes_in_progress"] == 0, what="all to be gone")


CIDRS = [
    ("127.0.0.1", "127.0.0.0/8", True),
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1", "127.0.0.2,10.0.0.0/8", False),
    ("127.0.0.1", "::/0", False),
    ("127.0.0.1", "0.0.0.0/0", True),
    ("127.0.0.1", "::ffff:127.0.0.0/104", True),
    ("127.0.0.1", "::ffff:10.0.0.0/104", False),
    ("127.0.0.2", "127.0.0.2/31", True),
    ("127.0.0.2", "127.0.0.0/31", False),
    ("::1", "::1", True),
    ("::1", "::/127", True),
    ("::1", "fd00::/8,127.0.0.0/8", False),
    ("::1", "0.0.0.0/0", False),
    ("::1", "0.0.0.0/0,::/0", True),
]


@pytest.mark.sanitizers
@pytest.mark.one_backend
@pytest.mark.parametrize("source,ranges,admitted", CIDRS)
def test_cidr(lab, source, ranges, admitted):
    """By the source address of the connection, IPv4, IPv6 and IPv4-mapped; 403 to the others, behind 404 for the path."""
    port = free_port()
    host = "[::1]" if ":" in source else "127.0.0.1"
    plain_server(lab, f"ws://{host}:{port}/tunnel", "-cidr", ranges, token=TOKEN)

    def status(path):
        with socket.create_connection((host.strip("[]"), port), 15, source_address=(source, 0)) as sock:
            sock.sendall(ws.upgrade_head(path, TOKEN).replace("\n", "\r\n").encode())
            return int(ws.read_head(sock)[0].split()[1])

    assert status("/tunnel") == (101 if admitted else 403)
    assert status("/elsewhere") == 404
