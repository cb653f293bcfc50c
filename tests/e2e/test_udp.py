"""UDP from an application's SOCKS5 association to targets and back, through both processes."""

import random
import socket

import pytest

import apps
import udp
from procs import free_port
from waiting import wait_until

ALLOW_V6 = ("-allow-target", "[::1]/128")


def numbered(seed, count, size=1200):
    """Distinct datagrams."""
    rng = random.Random(seed)
    return [b"%d|" % i + rng.randbytes(rng.randrange(size)) for i in range(count)]


@pytest.mark.sanitizers
@pytest.mark.parametrize("host, proxy", [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "127.0.0.1"),
                                         ("127.0.0.1", "::1"), ("::1", "::1")])
def test_addresses_and_names(lab, host, proxy):
    """Every kind of target from both kinds of client; a name is resolved by the server."""
    echo = lab.keep(udp.Echo(host="::1" if host == "::1" else "127.0.0.1"))
    extra = ALLOW_V6 if host == "::1" else ()
    listen = "proxy://[::1]:{port}" if proxy == "::1" else None
    _, client = lab.pair(server_extra=extra, listen=listen)
    with udp.Association(client.port, proxy) as association:
        assert association.relay[0] == proxy, "the address that the control connection came to"
        for payload in (b"question", b"", b"\0" * 1000):
            sender, answer = association.ask(host, echo.port, payload)
            assert answer == b"%d|" % echo.port + payload
            assert sender == ("127.0.0.1" if host == "localhost" else host, echo.port)


def exchange(association, host, echo, datagrams, burst):
    """Sends bursts that go round the targets; the answers, by target, in order."""
    answers = {port: [] for port in echo.ports}
    for at in range(0, len(datagrams), burst):
        part = datagrams[at:at + burst]
        for i, payload in enumerate(part, at):
            association.send(host, echo.ports[i % len(echo.ports)], payload)
        for _ in part:
            (_, port), answer = association.receive()
            answers[port].append(answer)
    return answers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_two_thousand_datagrams_to_twenty_targets(lab, host):
    echo = lab.keep(udp.Echo(20, host))
    _, client = lab.pair(server_extra=ALLOW_V6, channels=2)
    datagrams = numbered(1, 2000)
    with udp.Association(client.port) as association:
        answers = exchange(association, host, echo, datagrams, 100)
    for index, port in enumerate(echo.ports):
        expected = [b"%d|" % port + payload for payload in datagrams[index::20]]
        assert sorted(answers[port]) == sorted(expected), f"target {index}"
    counters = client.process.counters()
    assert counters["datagrams_dropped"] == counters["datagrams_malformed"] == counters["datagrams_foreign"] == 0


@pytest.mark.protocol("native")
def test_ten_thousand_datagrams_to_a_hundred_targets(lab):
    """Over one association, which is one stream: QUIC-sized ones among them, each answered to its sender."""
    echo = lab.keep(udp.Echo(100))
    server, client = lab.pair(channels=2)
    datagrams = numbered(2, 10_000)
    datagrams[::7] = [payload[:5].ljust(size, b"q") for payload, size in zip(datagrams[::7], [1200, 1252, 1452] * 1000)]
    with udp.Association(client.port) as association:
        answers = exchange(association, "127.0.0.1", echo, datagrams, 100)
        assert server.process.counters()["streams_open"] == 1
    for index, port in enumerate(echo.ports):
        expected = [b"%d|" % port + payload for payload in datagrams[index::100]]
        assert sorted(answers[port]) == sorted(expected), f"target {index}"
    assert client.process.counters()["datagrams_dropped"] == server.process.counters()["datagrams_dropped"] == 0


def test_largest_datagrams(lab):
    """As large as UDP carries: through the tunnel 65,507 bytes less the header of SOCKS5 go each way."""
    echo = lab.keep(udp.Echo(answer=lambda port, data: data))
    _, client = lab.pair()
    with udp.Association(client.port) as association:
        for size in (1, 1472, 9000, 32768, 65000, udp.LARGEST - 10):
            payload = random.Random(size).randbytes(size)
            assert association.ask("127.0.0.1", echo.port, payload)[1] == payload
        # An answer that leaves no room for the header before it is dropped, not cut.
        longer = lab.keep(udp.Echo(answer=lambda port, data: b"x" * udp.LARGEST))
        association.send("127.0.0.1", longer.port, b"go")
        wait_until(lambda: client.process.counters()["datagrams_unsent"] == 1, what="the drop to be counted")
        assert association.ask("127.0.0.1", echo.port, b"after")[1] == b"after"


@pytest.mark.sanitizers
def test_malformed_datagrams_are_dropped_and_counted(lab):
    echo = lab.keep(udp.Echo())
    _, client = lab.pair()
    good = udp.address("127.0.0.1", echo.port)
    wrong = [b"", b"\0", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\1\x7f\0\0\1\0", b"\0\0\0\2" + good[1:] + b"x",
             b"\0\0\0\3\xff" + b"a" * 200, b"\0\0\0\3\0\0\x35", b"\0\0\0\3\3a|b\0\x35x", b"\0\0\0\1\x7f\0\0\1\0\0x",
             b"\1\0\0" + good + b"x", b"\0\1\0" + good + b"x", b"\0\0\1" + good + b"fragment",
             b"\0\0\x81" + good + b"last fragment", b"\0\0\0\3\4a\0bc\0\x35"]
    with udp.Association(client.port) as association:
        for datagram in wrong:
            association.send_raw(datagram)
        assert association.ask("127.0.0.1", echo.port, b"good")[1] == b"%d|good" % echo.port
        assert client.process.counters()["datagrams_malformed"] == len(wrong)
        assert len(echo.received) == 1


@pytest.mark.sanitizers
def test_only_the_application_is_relayed(lab):
    """Another port of the same host is turned away once the application's is known; another host always."""
    echo = lab.keep(udp.Echo())
    _, client = lab.pair(listen="proxy://0.0.0.0:{port}")
    with udp.Association(client.port) as association, udp.udp_socket() as stranger, \
            udp.udp_socket("127.0.0.2") as elsewhere:
        request = b"\0\0\0" + udp.address("127.0.0.1", echo.port)
        association.send_raw(request + b"elsewhere", elsewhere)
        assert association.ask("127.0.0.1", echo.port, b"first")[1] == b"%d|first" % echo.port
        association.send_raw(request + b"stranger", stranger)
        assert association.ask("127.0.0.1", echo.port, b"second")[1] == b"%d|second" % echo.port
        assert client.process.counters()["datagrams_foreign"] == 2
        assert len(echo.received) == 2


def test_the_port_that_the_request_names(lab):
    echo = lab.keep(udp.Echo())
    _, client = lab.pair()
    with udp.Association(client.port, named="own") as association, udp.udp_socket() as stranger:
        association.send_raw(b"\0\0\0" + udp.address("127.0.0.1", echo.port) + b"early", stranger)
        assert association.ask("127.0.0.1", echo.port, b"mine")[1] == b"%d|mine" % echo.port
        assert client.process.counters()["datagrams_foreign"] == 1
        assert len(echo.received) == 1


@pytest.mark.sanitizers
@pytest.mark.protocol("legacy")
def test_answers_come_from_targets_only(lab):
    """The legacy protocol has one target for each of its associations: what a stranger sends to the server's socket does not reach the application."""
    echo, stranger = lab.keep(udp.Echo()), lab.keep(udp.Echo())
    server, client = lab.pair()
    with udp.Association(client.port) as association:
        association.ask("127.0.0.1", echo.port, b"x")
        _, seen = echo.received[0]
        stranger.send(b"unasked", seen)
        echo.send(b"further", seen)
        assert association.receive() == (("127.0.0.1", echo.port), b"further")
        assert server.process.counters()["datagrams_foreign"] == 1


@pytest.mark.protocol("native")
def test_answers_come_from_anybody(lab):
    """Full cone, as games and calls need it: who knows the server's socket reaches the application, which sees who it is."""
    echo, stranger = lab.keep(udp.Echo()), lab.keep(udp.Echo())
    _, client = lab.pair()
    with udp.Association(client.port) as association:
        association.ask("127.0.0.1", echo.port, b"x")
        _, seen = echo.received[0]
        stranger.send(b"unasked", seen)
        assert association.receive() == (("127.0.0.1", stranger.port), b"unasked")
        echo.send(b"further", seen)
        assert association.receive() == (("127.0.0.1", echo.port), b"further")


@pytest.mark.sanitizers
def test_association_ends_with_its_control_connection(lab):
    echo = lab.keep(udp.Echo())
    server, client = lab.pair(server_extra=("-threads", "1"))
    before = client.process.descriptors(), server.process.descriptors()
    with udp.Association(client.port) as association:
        association.ask("127.0.0.1", echo.port, b"x")
        assert client.process.counters()["associations_open"] == 1
        assert server.process.counters()["associations_open"] == 1
        association.control.close()
        for process in (client.process, server.process):
            wait_until(lambda process=process: process.counters()["associations_open"] == 0, what="the end")
        wait_until(lambda: (client.process.descriptors(), server.process.descriptors()) == before, what="all closed")
        association.send("127.0.0.1", echo.port, b"late")
        assert association.silent()


def test_targets_that_cannot_be(lab):
    """Denied, unknown, and silent ones cost nothing but their own datagrams."""
    echo = lab.keep(udp.Echo())
    server, client = lab.pair()
    with udp.Association(client.port) as association:
        for host, port in (("169.254.169.254", 53), ("does-not-exist.invalid", 53), ("127.0.0.1", free_port()),
                           ("::ffff:169.254.169.254", 53), ("0.0.0.0", 53)):
            for _ in range(3):
                association.send(host, port, b"anybody?")
        assert association.ask("127.0.0.1", echo.port, b"x")[1] == b"%d|x" % echo.port
        assert association.silent()
        assert server.process.counters()["targets_denied"] >= 3


def test_associations_beside_each_other(lab):
    """Each has its own relay, and its own address towards the target."""
    echo = lab.keep(udp.Echo())
    _, client = lab.pair(channels=2)
    associations = [udp.Association(client.port) for _ in range(10)]
    try:
        for index, association in enumerate(associations):
            association.send("127.0.0.1", echo.port, b"%d" % index)
        for index, association in enumerate(associations):
            assert association.receive()[1] == b"%d|%d" % (echo.port, index)
        assert len({association.relay for association in associations}) == 10
        assert len({source for _, source in echo.received}) == 10
    finally:
        for association in associations:
            association.close()


def test_lost_channel(lab):
    """The association lives on over the next channel."""
    echo = lab.keep(udp.Echo())
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config)
    with udp.Association(client.port) as association:
        association.ask("127.0.0.1", echo.port, b"before")
        relay.cut()
        client.process.wait_log(r"channel 1 up:", count=2, timeout=20)
        assert association.ask("127.0.0.1", echo.port, b"after")[1] == b"%d|after" % echo.port
        wait_until(lambda: server.process.counters()["associations_open"] == 1, what="the old one to end")


def test_refused_without_credentials(lab):
    _, client = lab.pair(listen="proxy://user:secret@127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", client.port), 15) as control:
        control.sendall(b"\x05\x01\x00")
        assert apps.receive_exactly(control, 2) == b"\x05\xff"
        assert apps.ends(control)
    assert client.process.counters()["associations_open"] == 0


def answered(association, port):
    association.send("127.0.0.1", port, b"?")
    return not association.silent()


def test_many_datagrams_at_once_are_dropped_not_queued(lab):
    """Far more than gets through: what is lost is counted, memory stays small, and the association works after."""
    echo = lab.keep(udp.Echo(answer=lambda port, data: None))
    answering = lab.keep(udp.Echo())
    server, client = lab.pair()
    with udp.Association(client.port) as association:
        for _ in range(20000):
            association.send("127.0.0.1", echo.port, b"x" * 1200)
        wait_until(lambda: answered(association, answering.port), timeout=30, what="an answer")
        assert client.process.rss_mib() < 200 and server.process.rss_mib() < 200


def test_terminates_with_associations_open(lab):
    server, client = lab.pair()
    with udp.Association(client.port):
        for process in (client.process, server.process):
            process.terminate()
            assert process.wait(5) == 0
