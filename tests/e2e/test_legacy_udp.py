"""UDP in the legacy wire protocol: our server against a client, and our client against a server, written by hand."""

import uuid

import pytest

import udp
import ws
from conftest import TOKEN
from legacy_peer import LegacyServer
from procs import free_port
from waiting import wait_until

ALLOW_V6 = ("-allow-target", "[::1]/128")


def new_id():
    return str(uuid.uuid4()).encode()


def connect(channel, host, port, association=None):
    association = association or new_id()
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    channel.send(ws.TEXT, b"UDP_CONNECT:" + association + b"|" + target.encode())
    return association


def answer(channel, association):
    """(sender, payload) of the next UDP_DATA."""
    kind, message = channel.receive()
    prefix = b"UDP_DATA:" + association + b"|"
    assert kind == ws.BINARY and message.startswith(prefix), message[:80]
    sender, _, payload = message[len(prefix):].partition(b"|")
    return sender, payload


@pytest.fixture
def echo(lab):
    return lab.keep(udp.Echo(answer=lambda port, data: b"echo|" + data))


# --- our server ---

@pytest.mark.sanitizers
def test_server_whole_life(lab, echo):
    """UDP_CONNECT, data before and after UDP_CONNECTED, any bytes, the sender of each answer, UDP_CLOSE."""
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        association = connect(channel, "127.0.0.1", echo.port)
        channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|early")
        messages = [channel.receive(), channel.receive()]
        sender = b"127.0.0.1:%d" % echo.port
        assert (ws.TEXT, b"UDP_CONNECTED:" + association) in messages
        assert (ws.BINARY, b"UDP_DATA:" + association + b"|" + sender + b"|echo|early") in messages
        for payload in (b"", b"|:|", bytes(range(256)), b"x" * 65000):
            channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|" + payload)
            assert answer(channel, association) == (sender, b"echo|" + payload)
        # A further UDP_CONNECT of the id changes nothing.
        connect(channel, "127.0.0.1", free_port(), association)
        channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|again")
        assert answer(channel, association) == (sender, b"echo|again")
        assert server.process.counters()["associations_open"] == 1
        channel.send(ws.TEXT, b"UDP_CLOSE:" + association)
        wait_until(lambda: server.process.counters()["associations_open"] == 0, what="the end of the association")
        channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|late")
        channel.send(ws.PING, b"alive")
        assert channel.receive(kinds=(ws.PONG, ws.TEXT, ws.BINARY)) == (ws.PONG, b"alive")


def test_server_sends_ipv6_without_brackets(lab):
    echo = lab.keep(udp.Echo(host="::1"))
    server = lab.server(*ALLOW_V6)
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        association = connect(channel, "::1", echo.port)
        assert channel.receive() == (ws.TEXT, b"UDP_CONNECTED:" + association)
        channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|x")
        assert answer(channel, association) == (b"::1:%d" % echo.port, b"%d|x" % echo.port)


def test_server_largest_datagram(lab):
    echo = lab.keep(udp.Echo(answer=lambda port, data: data))
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        association = connect(channel, "127.0.0.1", echo.port)
        assert channel.receive() == (ws.TEXT, b"UDP_CONNECTED:" + association)
        payload = bytes(i * 31 % 251 for i in range(udp.LARGEST))
        channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|" + payload)
        assert answer(channel, association)[1] == payload
        # In fragments, too, and longer than any datagram: dropped, and the association goes on.
        message = b"UDP_DATA:" + association + b"|" + payload
        channel.send(ws.BINARY, message[:30], fin=False)
        channel.send(ws.CONTINUATION, message[30:40000], fin=False)
        channel.send(ws.CONTINUATION, message[40000:])
        assert answer(channel, association)[1] == payload
        for size in (udp.LARGEST + 1, 100000):
            channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|" + b"x" * size)
        channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|after")
        assert answer(channel, association)[1] == b"after"


@pytest.mark.sanitizers
def test_server_refuses(lab, echo):
    """Denied, unknown and malformed targets: UDP_ERROR with a reason, and the channel lives on."""
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        for host, port in (("169.254.169.254", 53), ("does-not-exist.invalid", 53), ("127.0.0.1", 0), ("", 53),
                           ("127.1", 53), ("::1", 53)):
            association = connect(channel, host, port)
            channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|x")
            kind, message = channel.receive()
            assert kind == ws.TEXT and message.startswith(b"UDP_ERROR:" + association + b"|"), message
            assert len(message) > len(b"UDP_ERROR:|") + 36
        association = connect(channel, "127.0.0.1", echo.port)
        assert channel.receive() == (ws.TEXT, b"UDP_CONNECTED:" + association)


def test_server_closes_all_with_the_channel(lab, echo):
    server = lab.server("-threads", "1")  # no other core opens anything meanwhile
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        association = connect(channel, "127.0.0.1", echo.port)
        assert channel.receive() == (ws.TEXT, b"UDP_CONNECTED:" + association)
        with_channel = server.process.descriptors()
        for _ in range(50):
            association = connect(channel, "127.0.0.1", echo.port)
            assert channel.receive() == (ws.TEXT, b"UDP_CONNECTED:" + association)
            channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|x")
            assert answer(channel, association)[1] == b"echo|x"
        assert server.process.counters()["associations_open"] == 51
        assert server.process.descriptors() == with_channel + 50
    wait_until(lambda: server.process.counters()["associations_open"] == 0, what="the end of all")
    wait_until(lambda: server.process.descriptors() == with_channel - 1, what="every socket to be closed")


def test_server_bounds_associations(lab, echo):
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        bound = 2048
        for _ in range(bound):
            connect(channel, "127.0.0.1", echo.port)
        for _ in range(bound):
            assert channel.receive()[1].startswith(b"UDP_CONNECTED:")
        association = connect(channel, "127.0.0.1", echo.port)
        assert channel.receive()[1].startswith(b"UDP_ERROR:" + association + b"|too many")


def test_server_drops_what_the_channel_does_not_take(lab):
    """A client that does not read costs what is in its channel's queue, and the rest is dropped and counted."""
    flood = lab.keep(udp.Echo(answer=lambda port, data: b"x" * 60000))
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        association = connect(channel, "127.0.0.1", flood.port)
        assert channel.receive() == (ws.TEXT, b"UDP_CONNECTED:" + association)

        def dropped():
            for _ in range(50):
                channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|more")
            return server.process.counters()["datagrams_dropped"] > 100
        wait_until(dropped, timeout=30, what="datagrams to be dropped")
        assert server.process.rss_mib() < 200


def test_server_survives_refusals_of_the_target(lab):
    """Nobody listens at first: the ICMP answer ends nothing."""
    server = lab.server()
    port = free_port()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        association = connect(channel, "127.0.0.1", port)
        assert channel.receive() == (ws.TEXT, b"UDP_CONNECTED:" + association)
        for _ in range(5):
            channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|anybody?")
        wait_until(lambda: server.process.counters()["datagrams_sent"] >= 5, what="the datagrams to go out")
        with udp.socket.socket(udp.socket.AF_INET, udp.socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", port))
            sock.settimeout(15)
            channel.send(ws.BINARY, b"UDP_DATA:" + association + b"|now")
            data, source = sock.recvfrom(100)
            assert data == b"now"
            sock.sendto(b"here", source)
            assert answer(channel, association) == (b"127.0.0.1:%d" % port, b"here")


# --- our client ---

@pytest.fixture
def legacy(lab):
    return lab.keep(LegacyServer(lab.pki.cert, lab.pki.key, TOKEN))


def events(legacy, name):
    return [text for _, text in list(legacy.events) if text.startswith(name)]


@pytest.mark.sanitizers
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_client_whole_life(lab, legacy, host):
    """One legacy association per target, each opened once, data without waiting, all closed with the application's."""
    echo = lab.keep(udp.Echo(3, "::1" if host == "::1" else "127.0.0.1"))
    client = lab.client(legacy.port, "-fallback", channels=2)
    with udp.Association(client.port) as association:
        for payload in (b"one", bytes(range(256)) + b"|:|"):
            for port in echo.ports:
                sender, got = association.ask(host, port, payload)
                assert got == b"%d|" % port + payload
                assert sender == ("127.0.0.1" if host == "localhost" else host, port)
    wait_until(lambda: len(events(legacy, "UDP_CLOSE:")) == 3, what="UDP_CLOSE of each")
    opened = events(legacy, "UDP_CONNECT:")
    shown = f"[{host}]" if ":" in host else host
    assert sorted(text.split("|")[1] for text in opened) == sorted(f"{shown}:{port}" for port in echo.ports)
    ids = {text.split(":")[1].split("|")[0] for text in opened}
    assert ids == {text.split(":")[1] for text in events(legacy, "UDP_CLOSE:")}
    assert all(len(one) == 36 for one in ids) and len(ids) == 3


def test_client_keeps_targets_apart(lab, legacy):
    """Twenty targets over one association: the original sent them all to the first."""
    echo = lab.keep(udp.Echo(20))
    client = lab.client(legacy.port, "-fallback", channels=2)
    with udp.Association(client.port) as association:
        for index in range(400):
            association.send("127.0.0.1", echo.ports[index % 20], b"%d" % index)
            (_, port), got = association.receive()
            assert port == echo.ports[index % 20] and got == b"%d|%d" % (port, index)
    assert len(events(legacy, "UDP_CONNECT:")) == 20


@pytest.mark.sanitizers
def test_client_after_a_refusal(lab, legacy):
    """UDP_ERROR: what is sent is dropped, without a new UDP_CONNECT for each datagram."""
    echo = lab.keep(udp.Echo())
    client = lab.client(legacy.port, "-fallback")
    legacy.refuse = True
    with udp.Association(client.port) as association:
        association.send("127.0.0.1", echo.port, b"x")
        wait_until(lambda: events(legacy, "UDP_CONNECT:"), what="UDP_CONNECT")
        for _ in range(20):
            association.send("127.0.0.1", echo.port, b"x")
        assert association.silent()
        assert len(events(legacy, "UDP_CONNECT:")) == 1
        legacy.refuse = False
        other = lab.keep(udp.Echo())
        assert association.ask("127.0.0.1", other.port, b"x")[1] == b"%d|x" % other.port


@pytest.mark.sanitizers
def test_client_ignores_what_it_did_not_ask_for(lab, legacy):
    """Messages of unknown ids, senders that are none, too long ones."""
    echo = lab.keep(udp.Echo())
    client = lab.client(legacy.port, "-fallback")
    with udp.Association(client.port) as association:
        assert association.ask("127.0.0.1", echo.port, b"x")[1] == b"%d|x" % echo.port
        known = events(legacy, "UDP_CONNECT:")[0].split(":")[1].split("|")[0].encode()
        for message in (b"UDP_DATA:" + new_id() + b"|127.0.0.1:53|who?", b"UDP_DATA:" + known + b"|nonsense",
                        b"UDP_DATA:" + known + b"|fe80::1%eth0:53|zone", b"UDP_DATA:" + known + b"|1.2.3.4:0|port",
                        b"UDP_DATA:" + known + b"|1.2.3.4:5|" + b"x" * 70000):
            legacy.send_all(ws.frame(ws.BINARY, message, mask=False))
        for message in (b"UDP_CONNECTED:" + new_id(), b"UDP_ERROR:" + new_id() + b"|no"):
            legacy.send_all(ws.frame(ws.TEXT, message, mask=False))
        legacy.send_all(ws.frame(ws.BINARY, b"UDP_DATA:" + known + b"|2001:db8::1:53|from IPv6", mask=False))
        assert association.receive() == (("2001:db8::1", 53), b"from IPv6")
        assert association.ask("127.0.0.1", echo.port, b"y")[1] == b"%d|y" % echo.port
