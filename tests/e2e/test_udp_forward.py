"""udp:// listeners: datagrams of any sender to one target, through both processes, and the answers back."""

import random
import socket
import subprocess

import pytest

import udp
from peers import start_named
from procs import free_port
from waiting import SLOWNESS, wait_until

ALLOW_V6 = ("-allow-target", "[::1]/128")


def ask(sock, port, payload, host="127.0.0.1"):
    """The answer to `payload`, which must come from where it was sent."""
    sock.sendto(payload, (host, port))
    answer, source = sock.recvfrom(1 << 16)
    assert source[:2] == (host, port)
    return answer


@pytest.mark.sanitizers
@pytest.mark.parametrize("host, target", [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("::1", "127.0.0.1"),
                                          ("127.0.0.1", "::1"), ("::1", "::1")])
def test_addresses_and_names(lab, host, target):
    """Listening and asking in both families; a name is resolved by the server."""
    echo = lab.keep(udp.Echo(host="::1" if target == "::1" else "127.0.0.1"))
    brackets = "[{}]".format
    listen = (f"udp://{brackets(host) if ':' in host else host}:{{port}}/"
              f"{brackets(target) if ':' in target else target}:{echo.port}")
    _, client = lab.pair(listen=listen, server_extra=ALLOW_V6 if target == "::1" else ())
    with udp.udp_socket(host) as sock:
        for payload in (b"question", b"", b"\0" * 1000, random.Random(1).randbytes(udp.LARGEST - 6)):
            assert ask(sock, client.port, payload, host) == b"%d|" % echo.port + payload


def test_dig(lab):
    """bind9 behind one listener for UDP and one for TCP on the same port."""
    named = start_named(lab, 'one 60 IN A 192.0.2.1\nlong 60 IN TXT "' + '" "'.join(["x" * 200] * 4) + '"')
    port = free_port()
    where = f"127.0.0.1:{port}/localhost:{named.dns_port}"
    lab.pair("-l", f"tcp://{where}", listen=f"udp://{where}", port=port)

    def dig(*arguments):
        command = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+tries=2", "+timeout=10", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 * SLOWNESS).stdout

    assert dig("+notcp", "one.test", "A") == "192.0.2.1\n"
    assert dig("+notcp", "+bufsize=4096", "long.test", "TXT").count("x" * 200) == 4
    assert dig("+tcp", "one.test", "A") == "192.0.2.1\n"


@pytest.mark.sanitizers
def test_every_sender_and_every_rule_gets_its_own(lab):
    """Two rules in one list, many senders, bursts that are under way at the same time."""
    targets = [lab.keep(udp.Echo()) for _ in range(2)]
    second = free_port()
    _, client = lab.pair(channels=2, listen=f"udp://127.0.0.1:{{port}}/127.0.0.1:{targets[0].port},"
                                            f"127.0.0.1:{second}/127.0.0.1:{targets[1].port}")
    listeners = [(client.port, targets[0].port), (second, targets[1].port)]
    sockets = [udp.udp_socket() for _ in range(20)]
    try:
        for burst in range(5):
            for number, sock in enumerate(sockets):
                for listener, _ in listeners:
                    for i in range(8):
                        sock.sendto(b"%d %d %d" % (number, burst, i) + b"." * 1200, ("127.0.0.1", listener))
            for number, sock in enumerate(sockets):
                answers = sorted(sock.recvfrom(1 << 16) for _ in range(16))
                assert answers == sorted((b"%d|%d %d %d" % (target, number, burst, i) + b"." * 1200,
                                          ("127.0.0.1", listener)) for listener, target in listeners for i in range(8))
        counters = client.process.counters()
        assert counters["associations_open"] == 40
        assert counters["datagrams_dropped"] == counters["senders_evicted"] == 0
    finally:
        for sock in sockets:
            sock.close()


def test_strangers_without_number(lab):
    """More senders than are told apart: the client forgets the oldest, and its memory and the server's stay bounded."""
    echo = lab.keep(udp.Echo())
    server, client = lab.pair(listen=f"udp://127.0.0.1:{{port}}/127.0.0.1:{echo.port}")
    with udp.udp_socket() as faithful:
        for i in range(1200):
            # An address of its own: a port may come back.
            with udp.udp_socket(f"127.1.{i // 250}.{i % 250 + 1}") as stranger:
                assert ask(stranger, client.port, b"%d" % i) == b"%d|%d" % (echo.port, i)
            if i % 100 == 0:
                assert ask(faithful, client.port, b"still here") == b"%d|still here" % echo.port
        ports = {source for _, source in echo.received}
        assert ask(faithful, client.port, b"to the end") == b"%d|to the end" % echo.port
        assert {source for _, source in echo.received} == ports, "it kept its association"
    counters = client.process.counters()
    assert counters["associations_open"] == 1024
    assert counters["senders_evicted"] == 1201 - 1024
    wait_until(lambda: server.process.counters()["associations_open"] == 1024, what="the server to close as many")


@pytest.mark.sanitizers
def test_port_in_use_and_stopping(lab):
    """A taken port is named; TCP's port of the same number is another. SIGTERM ends a client that has senders."""
    echo = lab.keep(udp.Echo())
    server, client = lab.pair(listen=f"udp://127.0.0.1:{{port}}/127.0.0.1:{echo.port}")
    with udp.udp_socket() as sock:
        assert ask(sock, client.port, b"x") == b"%d|x" % echo.port
        second = lab.run("second", "-l", f"udp://127.0.0.1:{client.port}/127.0.0.1:9", "-f",
                         f"wss://secret.test:{server.port}/tunnel", "-ip", "127.0.0.1", "-ech-config", server.config,
                         "-state", lab.path("state"))
        assert second.wait(10) == 1
        assert f"127.0.0.1:{client.port}: address already in use" in second.log()
        client.process.terminate()
        assert client.process.wait(10) == 0
    wait_until(lambda: server.process.counters()["associations_open"] == 0, what="the server to let go")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", client.port))
