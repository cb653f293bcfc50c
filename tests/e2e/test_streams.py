"""Many streams at once, who speaks first, and what is left over afterwards."""

import asyncio
import socket
import time

import pytest

import apps
from origins import banner, blocks, echo, pattern
from waiting import SLOWNESS, wait_until

LEFTOVERS = ("sockets_open", "streams_open", "buffers_in_use")


def leftovers(process):
    counters = process.counters()
    return {name: counters[name] for name in LEFTOVERS}


def fetch_all(port, origin_port, streams, size):
    """Fetches `size` bytes on each of `streams` concurrent connections and checks each one's content."""
    opened = asyncio.Event()
    count = 0

    async def one(seed):
        nonlocal count
        reader, writer = await apps.open_socks5(port, "127.0.0.1", origin_port)
        count += 1
        if count == streams:
            opened.set()
        # All are open before the first asks for anything, so that they do run at once.
        await opened.wait()
        writer.write(f"GET {seed} {size}\n".encode())
        data = await reader.readexactly(size)
        assert data == bytes(pattern(seed, size)), f"stream {seed} has other bytes"
        writer.close()

    async def everything():
        await asyncio.wait_for(asyncio.gather(*(one(seed) for seed in range(streams))), 120 * SLOWNESS)

    asyncio.run(everything())


def check_streams(lab, streams, size):
    origin = lab.origin(blocks)
    server, client = lab.pair(channels=3)
    # The server has seen all three channels once their clients have: no stream is open yet.
    ends = (client.process, server.process)
    wait_until(lambda: server.process.counters()["channels_up"] == 3, what="three channels at the server")
    before = [leftovers(process) for process in ends]
    descriptors = [process.descriptors() for process in ends]
    fetch_all(client.port, origin.port, streams, size)
    assert client.process.counters()["streams_opened"] >= streams
    for process, baseline, held in zip(ends, before, descriptors):
        wait_until(lambda: leftovers(process) == baseline, what=f"{baseline}; now {leftovers(process)}")
        wait_until(lambda: process.descriptors() <= held, what=f"{held} descriptors; now {process.descriptors()}")
    assert origin.accepted == streams
    wait_until(lambda: origin.open == 0, what="the origin's connections to end")
    assert "channel 1 down" not in client.process.log()


def test_500_streams_of_1_mib(lab):
    check_streams(lab, 500, 1 << 20)


@pytest.mark.sanitizers
def test_50_streams_of_256_kib(lab):
    check_streams(lab, 50, 1 << 18)


@pytest.mark.sanitizers
def test_server_speaks_first(lab):
    """Each kind of listener hands on a banner that nobody asked for, within a second of the connection."""
    origin = lab.origin(banner)
    _, client = lab.pair()
    _, forward = lab.pair(listen=f"tcp://127.0.0.1:{{port}}/127.0.0.1:{origin.port}")
    ways = [lambda: apps.socks5(client.port, "127.0.0.1", origin.port),
            lambda: apps.http_connect(client.port, "127.0.0.1", origin.port),
            lambda: socket.create_connection(("127.0.0.1", forward.port), 10)]
    for connect in ways:
        started = time.monotonic()
        with connect() as sock:
            assert apps.receive_exactly(sock, 16) == b"SSH-2.0-origin\r\n"
            assert time.monotonic() - started < 1 * SLOWNESS


def test_socks5_connect_does_not_wait(lab):
    """The original waits 100 ms for bytes that no SOCKS5 client sends before the reply."""
    origin = lab.origin(banner)
    _, client = lab.pair()
    times = []
    for _ in range(20):
        started = time.monotonic()
        with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
            apps.receive_exactly(sock, 16)
        times.append(time.monotonic() - started)
    assert sorted(times)[len(times) // 2] < 0.05 * SLOWNESS, times


@pytest.mark.sanitizers
def test_silent_connections_hold_up_nobody(lab):
    """Connections are accepted concurrently: 50 that never say a word, before and after SOCKS, and one that works."""
    origin = lab.origin(echo)
    _, client = lab.pair()
    idle = [socket.create_connection(("127.0.0.1", client.port), 10) for _ in range(25)]
    idle += [apps.socks5(client.port, "127.0.0.1", origin.port) for _ in range(25)]
    try:
        started = time.monotonic()
        with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
            sock.sendall(b"hello")
            assert apps.receive_exactly(sock, 5) == b"hello"
        assert time.monotonic() - started < 1 * SLOWNESS
    finally:
        for sock in idle:
            sock.close()


@pytest.mark.sanitizers
def test_connections_that_come_and_go(lab):
    """500 short connections, half of them dropped at a random point of the handshake, leave nothing behind."""
    origin = lab.origin(echo)
    server, client = lab.pair()
    ends = (client.process, server.process)
    before = [leftovers(process) for process in ends]
    for index in range(250):
        with socket.create_connection(("127.0.0.1", client.port), 10) as sock:
            sock.sendall((b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01" +
                          origin.port.to_bytes(2, "big") + b"x" * 20)[:index % 34])
        with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
            sock.sendall(b"y")
            if index % 2:
                assert apps.receive_exactly(sock, 1) == b"y"
    for process, baseline in zip(ends, before):
        wait_until(lambda: leftovers(process) == baseline, what=f"{baseline}; now {leftovers(process)}")
    wait_until(lambda: origin.open == 0, what="the origin's connections to end")
