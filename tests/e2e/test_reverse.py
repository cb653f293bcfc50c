"""rtcp:// listeners: the server listens, and what connects to it comes back to a target of the client's, through both
processes."""

import asyncio
import os
import random
import re
import signal
import socket
import time

import pytest

import apps
from origins import echo
from procs import free_port
from waiting import SLOWNESS, wait_until

pytestmark = pytest.mark.protocol("native")
ALLOW = ("-allow-reverse", "127.0.0.0/8:*")


def rtcp(listen, target):
    return ("-l", f"rtcp://127.0.0.1:{listen}/127.0.0.1:{target}")


def echoes(port, payload=b"through"):
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.settimeout(15 * SLOWNESS)
        sock.sendall(payload)
        return apps.receive_exactly(sock, len(payload)) == payload


def listening(client, count=1, since=0):
    return client.process.wait_log(r"listening on rtcp://.*, at the server", count=count, since=since, timeout=60)


@pytest.mark.sanitizers
def test_echo_both_ways(lab):
    """Two forwards beside a proxy; one leaves the port to the server."""
    origin = lab.origin(echo)
    port = free_port()
    _, client = lab.pair(*rtcp(port, origin.port), *rtcp(0, origin.port), server_extra=ALLOW)
    listening(client, 2)
    chosen = int(client.process.wait_log(r"listening on rtcp://127\.0\.0\.1:0/.* \(port (\d+)\), at the server")[0].group(1))
    assert echoes(port) and echoes(chosen)
    assert echoes(port, random.Random(1).randbytes(3_000_000 if SLOWNESS == 1 else 300_000))
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"the usual way")
        assert apps.receive_exactly(sock, 13) == b"the usual way"


@pytest.mark.sanitizers
def test_twenty_at_once_and_a_channel_that_is_cut(lab):
    """Twenty connections talk while every channel is reset; no byte is lost, and none comes twice."""
    origin = lab.origin(echo)
    port = free_port()
    server = lab.server(*ALLOW)
    relay = lab.relay(server.port)
    client = lab.client(relay.port, *rtcp(port, origin.port), config=server.config, channels=2)
    listening(client)

    blocks, passed = 40, 0
    due = {20 * blocks * quarter // 4: asyncio.Event() for quarter in (1, 2, 3)}  # cuts, by what has passed

    async def talk(seed):
        nonlocal passed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        source = random.Random(seed)
        for _ in range(blocks):
            block = source.randbytes(source.randrange(1, 20_000))
            writer.write(block)
            assert await reader.readexactly(len(block)) == block
            passed += 1
            if passed in due:
                due[passed].set()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    async def cut():
        for event in due.values():
            await event.wait()
            relay.cut()

    async def everything():
        await asyncio.wait_for(asyncio.gather(*(talk(seed) for seed in range(20)), cut()), 90 * SLOWNESS)

    asyncio.run(everything())
    counters = client.process.counters()
    assert counters["streams_moved"] > 0 and counters["channels_lost"] >= 3
    wait_until(lambda: client.process.counters()["streams_open"] == 1, what="nothing but the listener to be left")
    assert origin.accepted == 20


def test_a_client_that_is_started_again_gets_its_listener_back(lab):
    """SIGKILL and a new process: the server lets go of the old session's address when its time has passed. SIGTERM: at
    once."""
    origin = lab.origin(echo)
    port = free_port()
    server = lab.server(*ALLOW)
    first = lab.client(server.port, *rtcp(port, origin.port), config=server.config)
    listening(first)
    assert echoes(port)
    os.kill(first.process.pid, signal.SIGTERM)
    assert first.process.wait(10) == 0
    second = lab.client(server.port, *rtcp(port, origin.port), config=server.config)
    listening(second)
    assert echoes(port)
    # Not SIGKILL: a process that a signal ends is a failure of the lab's.
    second.process.child.send_signal(signal.SIGSTOP)
    try:
        third = lab.client(server.port, *rtcp(port, origin.port), config=server.config)
        third.process.wait_log(r"not listening: the address is in use at the server")
        second.process.child.kill()
        started = time.monotonic()
        listening(third)
        assert time.monotonic() - started < 50 * SLOWNESS
        assert echoes(port)
    finally:
        second.process.child.kill()
        second.process.child.wait()
        lab.processes.remove(second.process)


def test_a_server_that_is_started_again_is_asked_again(lab):
    origin = lab.origin(echo)
    port = free_port()
    keys = lab.keygen()
    server = lab.server(*ALLOW, keys=keys)
    client = lab.client(server.port, *rtcp(port, origin.port), config=server.config)
    listening(client)
    assert echoes(port)
    assert server.process.stop() == 0
    with pytest.raises(OSError):
        echoes(port)
    mark = client.process.mark()
    lab.server(*ALLOW, keys=keys, port=server.port)
    listening(client, since=mark)
    assert echoes(port)


@pytest.mark.sanitizers
def test_refused(lab):
    """Without -allow-reverse, and outside of what it permits: the client says so, and goes on with what it can do."""
    origin = lab.origin(echo)
    port = free_port()
    _, client = lab.pair(*rtcp(port, origin.port))
    client.process.wait_log(rf"rtcp://127\.0\.0\.1:{port}/.*: not listening: the server does not allow it "
                            r"\(its -allow-reverse\)")
    with pytest.raises(OSError):
        echoes(port)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"the usual way")
        assert apps.receive_exactly(sock, 13) == b"the usual way"

    allowed, denied = free_port(), free_port()
    server = lab.server("-allow-reverse", f"127.0.0.1:{allowed},[::1]:*")
    client = lab.client(server.port, *rtcp(denied, origin.port), *rtcp(allowed, origin.port), *rtcp(0, origin.port),
                        "-l", f"rtcp://127.0.0.2:{allowed}/127.0.0.1:{origin.port}", config=server.config)
    refusals = client.process.wait_log(r"rtcp://(\S+)/\S+: not listening: the server does not allow it", count=3)
    assert {match.group(1) for match in refusals} == {f"127.0.0.1:{denied}", "127.0.0.1:0", f"127.0.0.2:{allowed}"}
    listening(client)
    assert echoes(allowed)
    with pytest.raises(OSError):
        echoes(denied)


def test_a_target_that_is_not_there(lab):
    """The visitor's connection ends; the listener stays."""
    port, nobody = free_port(), free_port()
    _, client = lab.pair(*rtcp(port, nobody), server_extra=ALLOW)
    listening(client)
    for _ in range(3):
        # It may be reset before it knows that it was accepted; not refused.
        with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.settimeout(15 * SLOWNESS)
            sock.recv(1)
    wait_until(lambda: client.process.counters()["streams_open"] == 1, what="nothing but the listener to be left")


def test_a_server_without_mux2(lab):
    """It is said once, and the rest works."""
    origin = lab.origin(echo)
    server = lab.server(*ALLOW, "-proto", "legacy")
    client = lab.client(server.port, *rtcp(free_port(), origin.port), config=server.config, channels=2)
    client.process.wait_log(r"reverse forwards need mux/2, which the server does not speak")
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"the usual way")
        assert apps.receive_exactly(sock, 13) == b"the usual way"
    assert len(re.findall("reverse forwards need mux/2", client.process.log())) == 1
