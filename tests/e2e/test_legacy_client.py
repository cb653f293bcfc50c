"""Our server against a client that speaks the legacy wire protocol, byte for byte as the original does."""

import uuid

import pytest

import apps
import ws
from conftest import TOKEN
from origins import Collector, Deaf, answer_and_close, banner, echo, pattern
from procs import free_port
from waiting import wait_until


def new_id():
    return str(uuid.uuid4()).encode()


def open_stream(channel, port, first=b"", stream=None, host=b"127.0.0.1"):
    stream = stream or new_id()
    channel.send(ws.TEXT, b"TCP:" + stream + b"|" + host + b":%d|" % port + first)
    return stream


def receive_data(channel, stream, size):
    """Collects `size` bytes of a stream; nothing else may come meanwhile."""
    data, prefix = b"", b"DATA:" + stream + b"|"
    while len(data) < size:
        kind, message = channel.receive()
        assert kind == ws.BINARY and message.startswith(prefix), message[:80]
        assert len(message) - len(prefix) <= 65536
        data += message[len(prefix):]
    assert len(data) == size
    return data


@pytest.mark.sanitizers
def test_whole_life_of_a_stream(lab):
    """CLAIM, TCP with first bytes, CONNECTED, DATA in text and binary with any bytes in it, CLOSE."""
    origin = lab.origin(echo)
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        stream = new_id()
        channel.send(ws.TEXT, b"CLAIM:" + stream + b"|0")
        assert channel.receive() == (ws.TEXT, b"CLAIM_ACK:" + stream + b"|0")
        open_stream(channel, origin.port, b"first|with|bars", stream)
        assert channel.receive() == (ws.TEXT, b"CONNECTED:" + stream)
        assert receive_data(channel, stream, 15) == b"first|with|bars"
        every_byte = bytes(range(256)) + b"|:|" + bytes(range(255, -1, -1))
        for opcode in (ws.TEXT, ws.BINARY):
            channel.send(opcode, b"DATA:" + stream + b"|" + every_byte)
            assert receive_data(channel, stream, len(every_byte)) == every_byte
        channel.send(ws.TEXT, b"CLOSE:" + stream)
        wait_until(lambda: origin.open == 0, what="the target's connection to end")
        # Late DATA for a stream that is gone is dropped, and the channel lives on.
        channel.send(ws.TEXT, b"DATA:" + stream + b"|late")
        channel.send(ws.PING, b"alive")
        assert channel.receive(kinds=(ws.PONG,)) == (ws.PONG, b"alive")


@pytest.mark.sanitizers
def test_claims_on_several_channels(lab):
    server = lab.server()
    channels = [ws.Channel(lab.pki.ca, server.port, TOKEN) for _ in range(3)]
    stream = new_id()
    for index, channel in enumerate(channels):
        channel.send(ws.TEXT, b"CLAIM:" + stream + b"|%d" % index)
    for index, channel in enumerate(channels):
        assert channel.receive() == (ws.TEXT, b"CLAIM_ACK:" + stream + b"|%d" % index)
        channel.close()


@pytest.mark.sanitizers
def test_target_ends(lab):
    origin = lab.origin(answer_and_close)
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        stream = open_stream(channel, origin.port, b"go\n")
        assert channel.receive() == (ws.TEXT, b"CONNECTED:" + stream)
        assert receive_data(channel, stream, 1 << 20) == bytes(pattern(1, 1 << 20))
        assert channel.receive() == (ws.TEXT, b"CLOSE:" + stream)


def test_target_speaks_first(lab):
    origin = lab.origin(banner)
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        stream = open_stream(channel, origin.port)
        assert channel.receive() == (ws.TEXT, b"CONNECTED:" + stream)
        assert receive_data(channel, stream, 16) == b"SSH-2.0-origin\r\n"


@pytest.mark.sanitizers
def test_target_cannot_be_reached(lab):
    """Refused, unknown name, no address at all, a port that is none: CLOSE each time, perhaps after an ERROR."""
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        for host, port in ((b"127.0.0.1", free_port()), (b"does-not-exist.invalid", 80), (b"", 80),
                           (b"127.0.0.1", 0)):
            stream = open_stream(channel, port, host=host)
            kind, message = channel.receive()
            while message.startswith(b"ERROR:"):
                kind, message = channel.receive()
            assert (kind, message) == (ws.TEXT, b"CLOSE:" + stream), host
        channel.send(ws.PING, b"alive")
        assert channel.receive(kinds=(ws.PONG,)) == (ws.PONG, b"alive")


@pytest.mark.sanitizers
def test_messages_in_fragments(lab):
    """A DATA message in many fragments with a Ping between them arrives whole."""
    origin = lab.origin(echo)
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        stream = open_stream(channel, origin.port)
        assert channel.receive() == (ws.TEXT, b"CONNECTED:" + stream)
        message = b"DATA:" + stream + b"|in several pieces"
        channel.send(ws.TEXT, message[:3], fin=False)
        for index in range(3, len(message) - 1):
            channel.send(ws.CONTINUATION, message[index:index + 1], fin=False)
            if index == 20:
                channel.send(ws.PING, b"between")
        channel.send(ws.CONTINUATION, message[-1:])
        assert receive_data(channel, stream, 17) == b"in several pieces"


@pytest.mark.sanitizers
def test_lost_channel_ends_its_targets(lab):
    origin = lab.origin(echo)
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        streams = [open_stream(channel, origin.port) for _ in range(10)]
        connected = {channel.receive()[1] for _ in streams}
        assert connected == {b"CONNECTED:" + stream for stream in streams}
    wait_until(lambda: origin.open == 0, timeout=3, what="the targets' connections to end")
    wait_until(lambda: server.process.counters()["streams_open"] == 0, what="no stream left")


@pytest.mark.sanitizers
def test_streams_are_kept_apart(lab):
    """Ten streams interleaved on one channel; each origin sees its own bytes, in order."""
    collector = Collector()
    origin = lab.origin(collector)
    server = lab.server()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        streams = [open_stream(channel, origin.port, b"%d:" % index) for index in range(10)]
        for _ in streams:
            channel.receive()
        for round_number in range(50):
            for index, stream in enumerate(streams):
                channel.send(ws.BINARY if index % 2 else ws.TEXT,
                             b"DATA:" + stream + b"|" + bytes(pattern(index, 100 * 50))[round_number * 100:][:100])
        for stream in streams:
            channel.send(ws.TEXT, b"CLOSE:" + stream)
        wait_until(lambda: len(collector.received) == 10, what="all streams to end")
    for data in collector.received:
        index, _, body = data.partition(b":")
        assert body == bytes(pattern(int(index), 5000)), index


def test_target_that_does_not_read(lab):
    """The legacy protocol has no credit: the server stops reading the channel once its bound is reached."""
    deaf = Deaf()
    origin = lab.origin(deaf)
    server = lab.server()
    before = server.process.rss_mib()
    with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
        stream = open_stream(channel, origin.port)
        assert channel.receive() == (ws.TEXT, b"CONNECTED:" + stream)
        message = ws.frame(ws.BINARY, b"DATA:" + stream + b"|" + bytes(pattern(3, 1 << 15)))
        channel.sock.settimeout(2)
        sent = 0
        with pytest.raises(OSError):
            while sent < 64 << 20:
                channel.sock.sendall(message)
                sent += 1 << 15
        assert sent < 64 << 20
        assert server.process.rss_mib() - before < 48
    wait_until(lambda: origin.accepted == 1, what="the target's connection")


MEANINGLESS = [b"", b":", b"TCP", b"TCP:", b"TCP:|", b"TCP:x|127.0.0.1:1|", b"CLAIM:", b"DATA:", b"CLOSE:", b"NOPE:1|2",
               b"\xff\xfe", b"TCP:" + b"a" * 36 + b"|nowhere|", b"TCP:" + b"a" * 36 + b"|127.0.0.1:99999|",
               b"CONNECTED:" + b"a" * 36, b"CLAIM_ACK:" + b"a" * 36 + b"|0"]


@pytest.mark.sanitizers
def test_messages_that_mean_nothing(lab):
    """Ignored, or the end of that channel: never of the server."""
    server = lab.server()
    for message in MEANINGLESS:
        for opcode in (ws.TEXT, ws.BINARY):
            with ws.Channel(lab.pki.ca, server.port, TOKEN) as channel:
                channel.send(opcode, message)
                channel.send(ws.PING, b"alive")
                try:
                    channel.receive(kinds=(ws.PONG,))
                except (apps.Refused, OSError):
                    pass
    ws.Channel(lab.pki.ca, server.port, TOKEN).close()
