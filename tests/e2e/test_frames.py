"""Malformed WebSocket frames end the channel they came on with 1002, and touch nothing else."""

import socket

import pytest

import apps
import ws
from conftest import TOKEN
from origins import echo

MALFORMED = {
    "unmasked": ws.frame(ws.BINARY, b"hello", mask=False),
    "reserved bit 1": ws.frame(ws.BINARY, b"hello", rsv=4),
    "reserved bit 3": ws.frame(ws.BINARY, b"hello", rsv=1),
    "reserved data opcode": ws.frame(3, b"hello"),
    "reserved control opcode": ws.frame(11, b"hello"),
    "control frame in fragments": ws.frame(ws.PING, b"hello", fin=False),
    "control frame too long": ws.frame(ws.PING, b"x" * 126),
    "continuation of nothing": ws.frame(ws.CONTINUATION, b"hello"),
    "message inside a message": ws.frame(ws.TEXT, b"a", fin=False) + ws.frame(ws.TEXT, b"b"),
    "length not minimal, 16 bits": ws.frame(ws.BINARY, b"hello", length_bytes=2),
    "length not minimal, 64 bits": ws.frame(ws.BINARY, b"x" * 200, length_bytes=8),
    "length with the top bit": b"\x82\xff" + b"\xff" * 8 + b"mask",
    "close of one byte": ws.frame(ws.CLOSE, b"\x03"),
    "close with a reserved code": ws.frame(ws.CLOSE, (1005).to_bytes(2, "big")),
}


@pytest.mark.sanitizers
def test_malformed_frames(lab):
    origin = lab.origin(echo)
    server, client = lab.pair()
    with apps.socks5(client.port, "127.0.0.1", origin.port) as bystander:
        for name, wrong in MALFORMED.items():
            with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
                channel.sock.sendall(wrong)
                assert channel.close_code() == 1002, name
                assert apps.ends(channel.sock), name
            bystander.sendall(b"unharmed")
            assert apps.receive_exactly(bystander, 8) == b"unharmed", name
    assert "channel 1 down" not in client.process.log()


@pytest.mark.sanitizers
def test_frame_larger_than_any_allowed(lab):
    """2^40 bytes are announced: refused at the header, not collected."""
    server = lab.server()
    before = server.process.rss_mib()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        channel.sock.sendall(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"mask")
        assert channel.close_code() in (1002, 1009)
    assert server.process.rss_mib() - before < 32


@pytest.mark.sanitizers
def test_message_without_end(lab):
    """Fragments that never end are bounded, too."""
    server = lab.server()
    before = server.process.rss_mib()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        # The server reads and drops what still comes while its Close is on the way, so sending may succeed to the end.
        try:
            channel.send(ws.TEXT, b"DATA:", fin=False)
            for _ in range(256):
                channel.send(ws.CONTINUATION, b"x" * (1 << 18), fin=False)
        except (OSError, socket.timeout):
            pass
        server.process.wait_log(r"channel \d+ down: .*1009")
    assert server.process.rss_mib() - before < 48


@pytest.mark.sanitizers
def test_close_codes_are_echoed(lab):
    server = lab.server()
    for code in (1000, 1001, 3000, 4999):
        with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
            channel.send(ws.CLOSE, code.to_bytes(2, "big") + b"bye")
            assert channel.close_code() == code
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        channel.send(ws.CLOSE)
        assert channel.close_code() in (1000, 1005)


@pytest.mark.sanitizers
def test_connection_cut_inside_a_frame(lab):
    server = lab.server()
    whole = ws.frame(ws.BINARY, b"x" * 300)
    for size in (1, 2, 3, 4, 7, 8, 9, 100):
        with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
            channel.sock.sendall(whole[:size])
    ws.Channel(lab.pki.ca, server.port, TOKEN).close()
