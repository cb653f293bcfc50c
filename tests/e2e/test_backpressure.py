"""A reader that stops stops its sender: within a bound, and with flat memory at both ends of the tunnel."""

import socket
import threading

import apps
from origins import PATTERN, Deaf, Firehose, echo
from waiting import settle, wait_until

# Kernel buffers of the three TCP connections on the way (each may grow to several MiB) and what the tunnel itself holds.
BOUND_BYTES = 64 << 20
MEMORY_MIB = 48


def test_application_that_does_not_read(lab):
    firehose = Firehose()
    origin = lab.origin(firehose)
    server, client = lab.pair()
    before = [process.rss_mib() for process in (server.process, client.process)]
    sock = apps.socks5(client.port, "127.0.0.1", origin.port)
    with sock:
        wait_until(lambda: firehose.sent > 0, what="the first bytes")
        stopped_at = settle(lambda: firehose.sent, quiet=1.5)
        assert stopped_at < BOUND_BYTES, f"{stopped_at} bytes were taken for a reader that reads nothing"
        after = [process.rss_mib() for process in (server.process, client.process)]
        assert all(now - then < MEMORY_MIB for then, now in zip(before, after)), (before, after)
        # It goes on where it stopped, every byte in order, and only as fast as it is read.
        expected = PATTERN[:65536] * 17
        total = 0
        while total < BOUND_BYTES:
            data = sock.recv(1 << 16)
            at = total % 65536
            assert data == expected[at:at + len(data)]
            total += len(data)
        wait_until(lambda: firehose.sent > stopped_at, what="the sender to go on")
    wait_until(lambda: origin.open == 0, what="the origin's connection to end")


def test_origin_that_does_not_read(lab):
    deaf = Deaf()
    origin = lab.origin(deaf)
    server, client = lab.pair()
    before = [process.rss_mib() for process in (server.process, client.process)]
    sock = apps.socks5(client.port, "127.0.0.1", origin.port)
    with sock:
        sent = 0
        sock.settimeout(1.5)
        try:
            while sent < BOUND_BYTES:
                sent += sock.send(PATTERN[:65536])
        except socket.timeout:
            pass
        assert sent < BOUND_BYTES, f"{sent} bytes were taken for an origin that reads nothing"
        after = [process.rss_mib() for process in (server.process, client.process)]
        assert all(now - then < MEMORY_MIB for then, now in zip(before, after)), (before, after)
        wait_until(lambda: deaf.listen is not None, what="the origin's connection")
        origin.call(deaf.listen.set)
        wait_until(lambda: deaf.received == sent, timeout=30, what="what was sent to arrive")


def test_stalled_stream_does_not_hold_up_another_client(lab):
    """Another client's streams run at full speed beside one that is stalled."""
    firehose = Firehose()
    origin, echoes = lab.origin(firehose), lab.origin(echo)
    server = lab.server()
    stalled = lab.client(server.port, config=server.config)
    other = lab.client(server.port, config=server.config)
    with apps.socks5(stalled.port, "127.0.0.1", origin.port):
        wait_until(lambda: firehose.sent > 0, what="the first bytes")
        settle(lambda: firehose.sent)
        with apps.socks5(other.port, "127.0.0.1", echoes.port) as sock:
            payload = PATTERN * 8
            sender = threading.Thread(target=sock.sendall, args=(payload,))
            sender.start()
            assert apps.receive_exactly(sock, len(payload)) == payload
            sender.join()
