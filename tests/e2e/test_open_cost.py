"""What opening a stream costs in round trips. Nothing is timed: a relay in front of the server holds one direction back,
so what happens meanwhile happens without a word from the other side."""

import contextlib
import socket

import pytest

import apps
from procs import free_port
from waiting import SLOWNESS, wait_until

pytestmark = pytest.mark.protocol("native")

CONNECTED = b"\x05\x00\x00\x01"   # SOCKS5's reply; address and port follow
REPLY_BYTES = 10
REQUEST, ANSWER = b"what is it?\n", b"it is an answer\n"


class Target:
    """Answers a line with a line; remembers that it has."""

    def __init__(self):
        self.answered = 0

    async def __call__(self, reader, writer):
        while await reader.readline() == REQUEST:
            writer.write(ANSWER)
            await writer.drain()
            self.answered += 1


@contextlib.contextmanager
def held_apart(lab, **client_options):
    """Yields relay, target, its port and the client, whose one channel is up through the relay."""
    server = lab.server()
    relay = lab.relay(server.port)
    target = Target()
    origin = lab.origin(target)
    if "listen" in client_options:
        client_options["listen"] = client_options["listen"].replace("TARGET", str(origin.port))
    client = lab.client(relay.port, config=server.config, **client_options)
    wait_until(lambda: server.process.counters()["channels_up"] == 1, what="the channel at the server")
    try:
        yield relay, target, origin, client
    finally:
        relay.pass_on()


def test_connect_takes_one_round_trip_and_first_bytes_ride_along(lab):
    with held_apart(lab) as (relay, target, origin, client):
        with apps.socks5_greeted(client.port) as app:
            relay.pass_on(to_client=False)
            app.sendall(apps.socks5_connect("127.0.0.1", origin.port) + REQUEST)
            # There: all that the target needs to answer, with nothing heard from the server.
            wait_until(lambda: target.answered == 1, what="the target to have answered")
            # Back: the reply and the answer, with nothing more said to the server.
            relay.pass_on(to_server=False)
            reply = apps.receive_exactly(app, REPLY_BYTES + len(ANSWER))
            assert reply.startswith(CONNECTED) and reply.endswith(ANSWER)


def test_an_application_that_waits_for_the_reply_pays_one_round_trip_for_it_and_one_for_the_answer(lab):
    with held_apart(lab) as (relay, target, origin, client):
        with apps.socks5_greeted(client.port) as app:
            relay.pass_on(to_client=False)
            app.sendall(apps.socks5_connect("127.0.0.1", origin.port))
            wait_until(lambda: origin.accepted == 1, what="the target to be connected")
            relay.pass_on(to_server=False)
            assert apps.receive_exactly(app, REPLY_BYTES).startswith(CONNECTED)
            relay.pass_on(to_client=False)
            app.sendall(REQUEST)
            wait_until(lambda: target.answered == 1, what="the target to have answered")
            relay.pass_on(to_server=False)
            assert apps.receive_exactly(app, len(ANSWER)) == ANSWER


def test_what_an_application_sends_to_a_forward_does_not_wait_for_the_target(lab):
    with held_apart(lab, listen="tcp://127.0.0.1:{port}/127.0.0.1:TARGET") as (relay, target, origin, client):
        relay.pass_on(to_client=False)
        with socket.create_connection(("127.0.0.1", client.port), 15 * SLOWNESS) as app:
            app.sendall(REQUEST)
            wait_until(lambda: target.answered == 1, what="the target to have answered")
            relay.pass_on(to_server=False)
            assert apps.receive_exactly(app, len(ANSWER)) == ANSWER


def test_a_forward_whose_target_refuses_is_reset_whatever_was_sent_ahead(lab):
    server = lab.server()
    client = lab.client(server.port, config=server.config, listen=f"tcp://127.0.0.1:{{port}}/127.0.0.1:{free_port()}")
    # Perhaps before connect() has returned.
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        with socket.create_connection(("127.0.0.1", client.port), 15 * SLOWNESS) as app:
            app.sendall(REQUEST)
            app.recv(1)
    wait_until(lambda: client.process.counters()["streams_failed"] == 1, what="the failure to be counted")
    wait_until(lambda: client.process.counters()["streams_open"] == 0, what="the stream to be gone")
