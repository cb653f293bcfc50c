"""Our client against a server that speaks the legacy wire protocol as the original does. Python has no ECH, so the
client is told -fallback, and says so."""

import pytest

import apps
import ws
from conftest import TOKEN
from legacy_peer import LegacyServer
from origins import Collector, answer_and_close, banner, echo, pattern
from waiting import wait_until


@pytest.fixture
def legacy(lab):
    return lab.keep(LegacyServer(lab.pki.cert, lab.pki.key, TOKEN))


def fallback_client(lab, legacy, *extra, **options):
    client = lab.client(legacy.port, "-fallback", *extra, **options)
    assert "without ECH" in client.process.log() or "fallback" in client.process.log().lower()
    return client


def messages(legacy, name):
    return [(channel, text) for channel, text in list(legacy.events) if text.startswith(name)]


@pytest.mark.sanitizers
def test_upgrade_as_the_original_makes_it(lab, legacy):
    fallback_client(lab, legacy, channels=3)
    assert len(legacy.upgrades) == 3
    for fields in legacy.upgrades:
        assert fields[""] == "GET /tunnel HTTP/1.1"
        assert fields["sec-websocket-protocol"] == TOKEN
        assert fields["sec-websocket-version"] == "13"
        assert fields["host"].split(":")[0] == "secret.test"
        assert "sec-websocket-extensions" not in fields
    keys = {fields["sec-websocket-key"] for fields in legacy.upgrades}
    assert len(keys) == 3, "every channel has a key of its own"


@pytest.mark.sanitizers
def test_transfer(lab, legacy):
    """1 MiB each way; every stream is claimed on all channels, opened once, and closed."""
    answers, collector = lab.origin(answer_and_close), Collector()
    collects, echoes = lab.origin(collector), lab.origin(echo)
    client = fallback_client(lab, legacy, channels=3)
    with apps.socks5(client.port, "127.0.0.1", answers.port) as sock:
        sock.sendall(b"go\n")
        assert apps.receive_exactly(sock, 1 << 20) == bytes(pattern(1, 1 << 20))
        assert apps.ends(sock)
    sock = apps.socks5(client.port, "127.0.0.1", collects.port)
    sock.sendall(pattern(2, 1 << 20))
    sock.close()
    wait_until(lambda: collector.received, what="the upload to end")
    assert collector.received == [bytes(pattern(2, 1 << 20))]
    with apps.http_connect(client.port, "127.0.0.1", echoes.port) as sock:
        every_byte = bytes(range(256))
        sock.sendall(every_byte)
        assert apps.receive_exactly(sock, 256) == every_byte
    wait_until(lambda: echoes.open == 0, what="CLOSE to reach the target")
    opened = messages(legacy, "TCP:")
    assert len(opened) == 3
    assert all(len(text.split(":")[1].split("|")[0]) == 36 for _, text in opened), "IDs are UUIDs in text form"


def test_claim_race(lab, legacy):
    """The stream is opened on the first channel to answer, and on that alone. One core: those of a core race."""
    origin = lab.origin(echo)
    client = fallback_client(lab, legacy, "-threads", "1", channels=3)
    for winner in (2, 0, 1):
        legacy.ack = lambda channel, _, winner=winner: channel.number == winner
        already = len(messages(legacy, "TCP:"))
        with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
            sock.sendall(b"race")
            assert apps.receive_exactly(sock, 4) == b"race"
        opened = messages(legacy, "TCP:")[already:]
        assert [channel for channel, _ in opened] == [winner]


def test_target_speaks_first(lab, legacy):
    origin = lab.origin(banner)
    client = fallback_client(lab, legacy)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        assert apps.receive_exactly(sock, 16) == b"SSH-2.0-origin\r\n"


@pytest.mark.sanitizers
def test_server_refuses_the_target(lab, legacy):
    legacy.refuse = True
    client = fallback_client(lab, legacy)
    for connect in (apps.socks5, apps.http_connect):
        try:
            with connect(client.port, "127.0.0.1", 80) as sock:
                assert apps.ends(sock)
        except apps.Refused:
            pass


@pytest.mark.sanitizers
def test_data_for_an_unknown_stream_is_answered_with_close(lab, legacy):
    fallback_client(lab, legacy)
    stranger = b"00000000-0000-4000-8000-000000000000"
    legacy.send_all(ws.frame(ws.BINARY, b"DATA:" + stranger + b"|who?", mask=False))
    wait_until(lambda: messages(legacy, "CLOSE:" + stranger.decode()), what="CLOSE")


@pytest.mark.sanitizers
def test_pings_are_answered(lab, legacy):
    fallback_client(lab, legacy)
    legacy.send_all(ws.frame(ws.PING, b"\x00any\xff", mask=False))
    wait_until(lambda: b"\x00any\xff" in legacy.pongs, what="Pong")


@pytest.mark.sanitizers
@pytest.mark.parametrize("name, wrong", [("masked", ws.frame(ws.BINARY, b"DATA:x", mask=True)),
                                         ("reserved bit", ws.frame(ws.BINARY, b"DATA:x", mask=False, rsv=4)),
                                         ("reserved opcode", ws.frame(5, b"x", mask=False))])
def test_malformed_frames_from_the_server(lab, legacy, name, wrong):
    """The channel is closed with 1002 and dialled again."""
    origin = lab.origin(echo)
    client = fallback_client(lab, legacy)
    legacy.send_all(wrong)
    wait_until(lambda: messages(legacy, "ws-close 1002"), what="Close 1002")
    client.process.wait_log(r"channel 1 up:", count=2, timeout=20)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"again")
        assert apps.receive_exactly(sock, 5) == b"again"


@pytest.mark.sanitizers
def test_server_drops_the_channels(lab, legacy):
    origin = lab.origin(echo)
    client = fallback_client(lab, legacy, channels=2)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"
        legacy.drop_channels()
        assert apps.ends(sock, timeout=3)
    client.process.wait_log(r"channel \d+ up:", count=4, timeout=30)


def test_without_fallback_there_is_no_connection(lab, legacy, stale_config):
    """The server has no ECH at all: it never sees a request, and the log says why."""
    client = lab.client(legacy.port, config=stale_config, up=False)
    client.process.wait_log(r"(?i)ech.*reject|reject.*ech", count=2, timeout=30)
    assert legacy.upgrades == []
    assert " up:" not in client.process.log()
