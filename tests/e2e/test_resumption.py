"""Coming back with a ticket: the upgrade goes out with the ClientHello, and a recording of it is worth nothing."""

import socket

import pytest

import apps
from ech_bytes import client_hello
from origins import echo
from pki import HIDDEN, PUBLIC
from waiting import SLOWNESS, wait_until

EARLY_DATA = 42  # RFC 8446 section 4.2.10


def use(client, origin):
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"still here")
        assert apps.receive_exactly(sock, 10) == b"still here"


@pytest.fixture
def tunnel(lab):
    """Server, relay in front of it, client with one channel through it, that has been used: its tickets are there."""
    origin = lab.origin(echo)
    server = lab.server("-log-level", "debug")
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config)
    use(client, origin)
    return server, relay, client, origin


@pytest.mark.sanitizers
def test_a_channel_is_back_in_one_round_trip_less(tunnel):
    """Nothing is timed: one direction is held back, and what happens meanwhile needs nothing of the other side."""
    server, relay, client, origin = tunnel
    relay.pass_on(to_client=False)
    relay.cut()
    # There: what the server needs to answer the upgrade, with nothing said to the client.
    server.process.wait_log(r"tls: ECH accepted, .* 0-RTT")
    up_before = server.process.counters()["channels_opened"]
    # Back: all that makes it a channel for the client, with nothing more said to the server.
    relay.pass_on(to_server=False)
    client.process.wait_log(rf"channel 1 up: .*ECH accepted, outer name {PUBLIC}, resumed, 0-RTT")
    assert server.process.counters()["channels_opened"] == up_before, "not confirmed, and a channel already"
    relay.pass_on()
    wait_until(lambda: server.process.counters()["channels_opened"] == up_before + 1, what="the channel at the server")
    use(client, origin)


@pytest.mark.sanitizers
def test_nothing_of_it_is_in_clear(tunnel):
    _, relay, client, origin = tunnel
    relay.cut()
    client.process.wait_log(r"channel 1 up: .*0-RTT")
    use(client, origin)
    first, again = (client_hello(bytes(record)) for record in relay.recorded)
    assert first[0] == again[0] == PUBLIC
    assert EARLY_DATA not in first[1] and EARLY_DATA in again[1]
    for hidden in (HIDDEN.encode(), b"/tunnel", b"correct-horse-battery"):
        assert hidden not in relay.client_bytes()


def test_again_and_again_from_every_core(tunnel):
    """Whichever core of the server a connection comes to, its tickets are good there."""
    server, relay, client, origin = tunnel
    for times in range(1, 5):
        relay.cut()
        client.process.wait_log(r"channel 1 up: .*0-RTT", count=times, timeout=60)
    use(client, origin)
    assert "resumed, 0-RTT" in client.process.log() and server.process.running()


def test_a_recording_makes_no_channel(tunnel):
    """Who plays the client's bytes again gets an answer that he cannot read, and the tunnel goes on."""
    server, relay, client, origin = tunnel
    relay.cut()
    client.process.wait_log(r"channel 1 up: .*0-RTT")
    use(client, origin)
    recording = bytes(relay.recorded[1])
    before = server.process.counters()
    for whole in (True, False):
        # All of it, or without what it said once it had its answer: the ClientHello and the early data.
        with socket.create_connection(("127.0.0.1", server.port), 15 * SLOWNESS) as player:
            player.settimeout(60 * SLOWNESS)
            early = recording if whole else first_flight(recording)
            player.sendall(early)
            assert player.recv(1) != b"", "the server answers"
            if not whole:
                player.shutdown(socket.SHUT_WR)
            try:
                while player.recv(1 << 16):
                    pass
            except ConnectionResetError:
                pass
    wait_until(lambda: server.process.counters()["handshakes_failed"] >= before["handshakes_failed"] + 2,
               what="both to be given up")
    after = server.process.counters()
    assert after["channels_opened"] == before["channels_opened"] and after["channels_up"] == 1
    use(client, origin)
    assert relay.connections == 2, "the client has noticed nothing"


def first_flight(recording):
    """The records up to the first that is sent under the handshake's keys: of those with application data, the early
    data comes at once behind the ClientHello (and a ChangeCipherSpec)."""
    at, kept = 0, 0
    while at + 5 <= len(recording):
        kind, length = recording[at], int.from_bytes(recording[at + 3:at + 5], "big")
        at += 5 + length
        if kind == 23:
            kept = at
            break
    return recording[:kept]


def test_a_server_that_forgot_is_shaken_hands_with_anew(lab):
    """The upgrade that came too early is sent again on the same connection."""
    origin = lab.origin(echo)
    keys = lab.keygen()
    first = lab.server(keys=keys)
    relay = lab.relay(first.port)
    client = lab.client(relay.port, config=first.config)
    use(client, origin)
    assert first.process.stop() == 0
    second = lab.server(keys=keys, port=first.port)
    client.process.wait_log(r"channel 1 up: .*ECH accepted", count=2, timeout=60)
    use(client, origin)
    _, extensions = client_hello(bytes(relay.recorded[-1]))
    assert EARLY_DATA in extensions, "it was tried"
    assert "0-RTT" not in client.process.log()
    assert second.process.counters()["channels_up"] == 1


def test_rejected_ech_with_early_data(lab):
    """The keys are others by the time the channel is lost: the retry configs serve, and nothing leaks on the way."""
    origin = lab.origin(echo)
    server = lab.server(keys=lab.keygen())
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config)
    use(client, origin)
    assert server.process.stop() == 0
    lab.server(keys=lab.keygen(), port=server.port)
    client.process.wait_log(r"channel 1 up: .*ECH accepted", count=2, timeout=60)
    use(client, origin)
    assert HIDDEN.encode() not in relay.client_bytes()
