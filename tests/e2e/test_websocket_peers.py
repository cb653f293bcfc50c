"""Our WebSocket layer, both roles, against other implementations: libwebsockets' test server and client, the Python
library websockets, and wsproto, by which frames can be made that the rules forbid."""

import asyncio
import re
import socket
import ssl

import pytest
import websockets
import wsproto
from wsproto.events import (AcceptConnection, BytesMessage, CloseConnection, Message, Ping, Pong, Request, TextMessage)
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol, Opcode, RsvBits

import echo
import ws
from conftest import TOKEN
from peers import listens
from pki import HIDDEN
from procs import free_port
from waiting import SLOWNESS, wait_until


# --- libwebsockets ---

def lws_server(lab, tls):
    port = free_port()
    identity = ["--ssl", "-C", lab.pki.cert, "-K", lab.pki.key] if tls else []
    process = lab.start("libwebsockets-server", "libwebsockets-test-server", f"--port={port}", "-d", "15", *identity)
    wait_until(lambda: listens(port), what="libwebsockets-test-server to listen")
    return process, f"wss://{HIDDEN}:{port}/" if tls else f"ws://127.0.0.1:{port}/"


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_our_client_and_the_server_of_libwebsockets(lab, tls):
    process, url = lws_server(lab, tls)
    options = ["-ca", lab.pki.ca, "-ip", "127.0.0.1"] if tls else []
    # It counts up for each client.
    status, output = echo.run_client(lab, url, *options, "-protocol", "dumb-increment-protocol", "-mode", "receive",
                                     "-messages", "10")
    assert status == 0, output
    assert output.split()[:10] == [str(number) for number in range(10)]
    # Its mirror sends text, in messages of at most its buffer's size.
    status, output = echo.run_client(lab, url, *options, "-protocol", "lws-mirror-protocol", "-kind", "text", "-messages",
                                     "300", "-size", "1,20,125,126,127,4000")
    assert status == 0, output
    assert "300 messages, 219950 bytes" in output
    status, output = echo.run_client(lab, url, *options, "-protocol", "no-such-protocol")
    assert status == 1 and output.startswith("ws_echo: "), output
    assert process.running()


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_our_server_and_the_client_of_libwebsockets(lab, tls):
    """It opens two connections: it mirrors drawing commands through one, and is counted for on the other."""
    server = echo.server(lab, "-protocol", "dumb-increment-protocol,lws-mirror-protocol", tls=tls)
    options = ["--ssl", "-A", lab.pki.ca] if tls else []
    client = lab.start("libwebsockets-client", "libwebsockets-test-client", "127.0.0.1", f"--port={server.port}", "-d",
                       "15", *options)
    numbers = client.wait_log(r" rx \d+ '(\d+)'", count=10)
    assert [match.group(1) for match in numbers][:10] == [str(number) for number in range(10)]
    client.wait_log(r"mirror: LWS_CALLBACK_CLIENT_ESTABLISHED")
    client.stop()
    downs = server.process.wait_log(r"down: (.*); echoed (\d+) messages", count=2)
    assert any(int(match.group(2)) > 100 for match in downs), "nothing was mirrored"
    assert not any("broke the WebSocket protocol" in match.group(1) for match in downs)


# --- websockets ---

def trusting(lab):
    return ssl.create_default_context(cafile=str(lab.pki.ca))


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_our_server_and_websockets(lab, tls):
    server = echo.server(lab, "-protocol", "chat", tls=tls)
    options = {"ssl": trusting(lab), "server_hostname": HIDDEN} if tls else {}

    async def talk():
        async with websockets.connect(server.url, subprotocols=["other", "chat"], max_size=None, **options) as peer:
            assert peer.subprotocol == "chat"
            for message in ("", "h\u00e9llo", b"", b"\xff\x00", "x" * 65535, "\u20ac" * 100000, b"y" * (1 << 20)):
                await peer.send(message)
                assert await peer.recv() == message
            await peer.send(["in ", "three ", "fragments"])
            assert await peer.recv() == "in three fragments"
            await peer.send([b"a", b"", b"b"])
            assert await peer.recv() == b"ab"
            await asyncio.wait_for(await peer.ping(b"payload"), 15 * SLOWNESS)
            for number in range(200):
                await peer.send(f"{number}")
            assert [await peer.recv() for _ in range(200)] == [f"{number}" for number in range(200)]
            await peer.close(4321, "that was it")
            assert peer.close_code == 4321

    asyncio.run(asyncio.wait_for(talk(), 60 * SLOWNESS))
    server.process.wait_log(r"closed by the peer with code 4321: that was it")


def test_our_server_goes_away_in_order(lab):
    server = echo.server(lab)

    async def talk():
        async with websockets.connect(server.url) as peer:
            await peer.send("before")
            assert await peer.recv() == "before"
            server.process.terminate()
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(peer.recv(), 15 * SLOWNESS)
            assert peer.close_code == 1001 and peer.close_reason == "server stops"

    asyncio.run(talk())
    assert server.process.wait(15) == 0


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_our_client_and_websockets(lab, tls):
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(lab.pki.cert, lab.pki.key)
    codes = []

    async def serve(peer, _path=None):
        try:
            async for message in peer:
                await peer.send([message[:5], message[5:]] if len(message) == 126 else message)
        finally:
            codes.append(peer.close_code)

    async def talk():
        async with websockets.serve(serve, "127.0.0.1", 0, ssl=context, subprotocols=["chat"], max_size=None) as server:
            port = server.sockets[0].getsockname()[1] if hasattr(server, "sockets") else \
                server.server.sockets[0].getsockname()[1]
            url = f"wss://{HIDDEN}:{port}/" if tls else f"ws://127.0.0.1:{port}/"
            options = ["-ca", lab.pki.ca, "-ip", "127.0.0.1"] if tls else []
            return await asyncio.get_running_loop().run_in_executor(
                None, lambda: echo.run_client(lab, url, *options, "-protocol", "chat", "-messages", "70", "-window", "4",
                                              "-size", "0,1,125,126,65535,65536,1000000"))

    status, output = asyncio.run(asyncio.wait_for(talk(), 100 * SLOWNESS))
    assert status == 0 and output.startswith("70 messages, "), output
    assert codes == [1000]


# --- wsproto ---

class SetsRsv(Extension):
    """Not an extension anyone negotiated: it only sets reserved bits."""
    name = "sets-rsv"

    def __init__(self, *bits):
        self.bits = RsvBits(*bits)

    def enabled(self):
        return True

    def frame_outbound(self, proto, opcode, rsv, data, fin):
        return self.bits, data


def serialize(client, opcode, payload=b"", fin=True, extensions=()):
    return FrameProtocol(client=client, extensions=list(extensions))._serialize_frame(opcode, payload, fin)


def compressed(client):
    """A frame of permessage-deflate, as wsproto writes it once that was agreed on, which it was not."""
    extension = PerMessageDeflate()
    extension._enabled = True
    return FrameProtocol(client=client, extensions=[extension]).send_data("compressed " * 10)


# Each is made by wsproto's own writer, told to do what it would not. `c`: as a client does.
ILLEGAL = {
    "mask of the other role": (lambda c: serialize(not c, Opcode.TEXT, b"x"), 1002),
    "RSV1": (lambda c: serialize(c, Opcode.TEXT, b"x", extensions=[SetsRsv(True, False, False)]), 1002),
    "RSV2": (lambda c: serialize(c, Opcode.BINARY, b"x", extensions=[SetsRsv(False, True, False)]), 1002),
    "RSV3": (lambda c: serialize(c, Opcode.BINARY, b"x", extensions=[SetsRsv(False, False, True)]), 1002),
    "compression that was not agreed on": (compressed, 1002),
    "continuation of nothing": (lambda c: serialize(c, Opcode.CONTINUATION, b"x"), 1002),
    "message inside a message": (lambda c: serialize(c, Opcode.TEXT, b"a", fin=False) + serialize(c, Opcode.TEXT, b"b"),
                                 1002),
    "fragmented Ping": (lambda c: serialize(c, Opcode.PING, b"x", fin=False), 1002),
    "Close of one byte": (lambda c: serialize(c, Opcode.CLOSE, b"\x03"), 1002),
    "Close with 1006": (lambda c: serialize(c, Opcode.CLOSE, (1006).to_bytes(2, "big")), 1002),
    "Close whose reason is not UTF-8": (lambda c: serialize(c, Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
    "text that is not UTF-8": (lambda c: serialize(c, Opcode.TEXT, b"\xff"), 1007),
}


class WsprotoPeer:
    """One end by wsproto over a socket."""

    def __init__(self, sock, role):
        self.sock = sock
        self.sock.settimeout(15 * SLOWNESS)
        self.connection = wsproto.WSConnection(role)

    def send(self, event):
        self.sock.sendall(self.connection.send(event))

    def until(self, kind):
        """The next event of a kind, and what came before it."""
        before = []
        while True:
            for event in self.connection.events():
                if isinstance(event, kind):
                    return event, before
                if isinstance(event, Ping):
                    self.send(event.response())
                before.append(event)
            data = self.sock.recv(1 << 16)
            assert data, f"the stream ended before {kind}"
            self.connection.receive_data(data)

    def message(self):
        parts = [self.until(Message)[0]]
        while not parts[-1].message_finished:
            parts.append(self.until(Message)[0])
        return type(parts[0]), type(parts[0].data)().join(part.data for part in parts)


def wsproto_client(sock, path="/", subprotocols=()):
    peer = WsprotoPeer(sock, wsproto.ConnectionType.CLIENT)
    peer.send(Request(host="127.0.0.1", target=path, subprotocols=list(subprotocols), extensions=[PerMessageDeflate()]))
    accepted, _ = peer.until(AcceptConnection)
    assert not accepted.extensions, "we agree on no extension"
    return peer


def exchange(peer):
    for data, kind in (("h\u00e9llo", TextMessage), (b"\xff" * 70000, BytesMessage), ("", TextMessage)):
        peer.send(Message(data=data))
        assert peer.message() == (kind, data)
    peer.send(TextMessage(data="one ", message_finished=False))
    peer.send(Ping(payload=b"between"))
    peer.send(TextMessage(data="two", message_finished=True))
    assert peer.until(Pong)[0].payload == b"between"
    assert peer.message() == (TextMessage, "one two")


def test_our_server_and_wsproto(lab):
    server = echo.server(lab)
    with socket.create_connection(("127.0.0.1", server.port), 15 * SLOWNESS) as sock:
        peer = wsproto_client(sock)
        exchange(peer)
        peer.send(CloseConnection(code=3210, reason="done"))
        assert peer.until(CloseConnection)[0].code == 3210
        assert sock.recv(1) == b""
    for name, (frames, code) in ILLEGAL.items():
        with socket.create_connection(("127.0.0.1", server.port), 15 * SLOWNESS) as sock:
            peer = wsproto_client(sock)
            sock.sendall(frames(True))
            closed, before = peer.until(CloseConnection)
            assert closed.code == code and closed.reason, (name, closed, before)
            assert sock.recv(1) == b"", name


def test_our_client_and_wsproto(lab):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(15 * SLOWNESS)

        def accept():
            process = echo.client(lab, f"ws://127.0.0.1:{listener.getsockname()[1]}/", "-mode", "echo")
            peer = WsprotoPeer(listener.accept()[0], wsproto.ConnectionType.SERVER)
            peer.until(Request)
            peer.send(AcceptConnection())
            return peer, process

        peer, process = accept()
        with peer.sock:
            exchange(peer)
            peer.send(CloseConnection(code=3210, reason="done"))
            assert peer.until(CloseConnection)[0].code == 3210
        assert process.wait(20) == 0
        for name, (frames, code) in ILLEGAL.items():
            peer, process = accept()
            with peer.sock:
                peer.sock.sendall(frames(False))
                closed, before = peer.until(CloseConnection)
                assert closed.code == code and closed.reason, (name, closed, before)
            assert process.wait(20) == 0
            assert re.search(rf"down: .*\(sent {code}\)", process.log()), (name, process.log())


def test_the_tunnels_server_and_wsproto(lab):
    server = lab.server()
    for name, (frames, code) in ILLEGAL.items():
        if name == "text that is not UTF-8":
            continue  # the legacy protocol puts bytes into text
        with ws.tls_connect(lab.pki.ca, server.port) as sock:
            peer = wsproto_client(sock, "/tunnel", [TOKEN])
            sock.sendall(frames(True))
            assert peer.until(CloseConnection)[0].code == code, name
    wait_until(lambda: server.process.counters()["channels_up"] == 0, what="the channels to be gone")
    assert server.process.counters()["protocol_errors"] == len(ILLEGAL) - 1
