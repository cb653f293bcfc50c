"""A server that speaks the legacy wire protocol as the original program does, made from nothing but asyncio and ssl.
It stands in for a deployed server: no ECH, CLAIM and CLAIM_ACK, text and binary messages, no flow control."""

import asyncio
import ssl
import struct

from loop_thread import LoopThread
from ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, accept_value, frame


class LegacyServer(LoopThread):
    def __init__(self, cert, key, token=None):
        self.token = token
        self.events = []        # (channel number, message up to its payload), in order of arrival
        self.opcodes = []       # of every data message, with its length
        self.upgrades = []      # the fields of every upgrade request
        self.handshakes_failed = 0
        self.pongs = []
        self.ack = lambda channel, message: True  # whether to answer this CLAIM
        self.refuse = False     # answer TCP with CLOSE, UDP_CONNECT with UDP_ERROR
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(cert, key)
        self.channels = {}
        super().__init__(
            lambda: asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=1 << 20), self._on_loop_error)

    def _on_loop_error(self, _, details):
        if isinstance(details.get("exception"), ssl.SSLError):
            self.handshakes_failed += 1

    async def _serve(self, reader, writer):
        try:
            await self._upgrade(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _upgrade(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip()
                  for name, _, value in (line.partition(":") for line in head[1:] if line)}
        self.upgrades.append({"": head[0], **fields})
        if self.token and fields.get("sec-websocket-protocol") != self.token:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        answer = ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Accept: {accept_value(fields['sec-websocket-key'])}\r\n")
        if self.token:
            answer += f"Sec-WebSocket-Protocol: {self.token}\r\n"
        writer.write((answer + "\r\n").encode())
        channel = LegacyChannel(self, len(self.upgrades) - 1, reader, writer)
        self.channels[channel.number] = channel
        try:
            await channel.run()
        finally:
            del self.channels[channel.number]
            channel.end()

    def send_all(self, data):
        """Sends these bytes, as they are, on every channel."""
        self.call(lambda: [channel.writer.write(data) for channel in self.channels.values()])

    def drop_channels(self):
        self.call(lambda: [channel.writer.transport.abort() for channel in self.channels.values()])


class LegacyChannel:
    def __init__(self, server, number, reader, writer):
        self.server, self.number, self.reader, self.writer = server, number, reader, writer
        self.targets = {}
        self.datagrams = {}  # UDP: one connected socket for each id
        self.closed_with = None

    def text(self, message):
        self.writer.write(frame(TEXT, message, mask=False))

    async def read_frame(self):
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client must mask"
        size = second & 0x7f
        if size == 126:
            size, = struct.unpack(">H", await self.reader.readexactly(2))
        elif size == 127:
            size, = struct.unpack(">Q", await self.reader.readexactly(8))
        key = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(size)
        repeated = (key * (size // 4 + 1))[:size]
        return bool(first & 0x80), first & 0x0f, (
            int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")

    async def run(self):
        message, kind = b"", None
        while True:
            fin, opcode, payload = await self.read_frame()
            if opcode == PING:
                self.writer.write(frame(PONG, payload, mask=False))
            elif opcode == PONG:
                self.server.pongs.append(payload)
            elif opcode == CLOSE:
                self.closed_with = int.from_bytes(payload[:2], "big") if payload else 1005
                self.server.events.append((self.number, f"ws-close {self.closed_with}"))
                return
            else:
                kind = opcode if opcode != CONTINUATION else kind
                message += payload
                if fin:
                    await self.handle(kind, message)
                    message = b""

    async def handle(self, opcode, message):
        self.server.opcodes.append((opcode, len(message)))
        name, _, rest = message.partition(b":")
        stream, _, payload = rest.partition(b"|")
        seen = name.decode() + ":" + stream.decode()
        if name == b"CLAIM":
            self.server.events.append((self.number, f"{seen}|{payload.decode()}"))
            if self.server.ack(self, message):
                self.text(b"CLAIM_ACK:" + rest)
        elif name == b"TCP":
            address, _, first = payload.partition(b"|")
            self.server.events.append((self.number, f"{seen}|{address.decode()}"))
            if self.server.refuse:
                self.text(b"CLOSE:" + stream)
                return
            await self.open(stream, address.decode(), first)
        elif name == b"DATA":
            assert opcode == TEXT or len(message) > 5
            if stream in self.targets:
                self.targets[stream].write(payload)
                await self.targets[stream].drain()
        elif name == b"UDP_CONNECT":
            self.server.events.append((self.number, f"{seen}|{payload.decode()}"))
            await self.open_datagrams(stream, payload.decode())
        elif name == b"UDP_DATA":
            assert opcode == BINARY
            self.server.events.append((self.number, seen))
            if stream in self.datagrams:
                self.datagrams[stream].sendto(payload)
        elif name == b"UDP_CLOSE":
            self.server.events.append((self.number, seen))
            if stream in self.datagrams:
                self.datagrams.pop(stream).close()
        else:
            self.server.events.append((self.number, seen))
            if name == b"CLOSE" and stream in self.targets:
                self.targets.pop(stream).close()

    async def open(self, stream, address, first):
        host, port = address.rsplit(":", 1)
        try:
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError:
            self.text(b"CLOSE:" + stream)
            return
        self.targets[stream] = writer
        writer.write(first)
        self.text(b"CONNECTED:" + stream)
        asyncio.ensure_future(self.pump(stream, reader))

    async def open_datagrams(self, stream, address):
        host, port = address.rsplit(":", 1)
        if self.server.refuse:
            self.text(b"UDP_ERROR:" + stream + b"|no UDP today")
            return
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: LegacyDatagrams(self, stream), remote_addr=(host.strip("[]"), int(port)))
        except OSError as error:
            self.text(b"UDP_ERROR:" + stream + b"|" + str(error).encode())
            return
        self.datagrams[stream] = transport
        self.text(b"UDP_CONNECTED:" + stream)

    async def pump(self, stream, reader):
        try:
            while data := await reader.read(32768):
                self.writer.write(frame(BINARY, b"DATA:" + stream + b"|" + data, mask=False))
                await self.writer.drain()
        except OSError:
            pass
        if stream in self.targets:
            self.targets.pop(stream).close()
            self.text(b"CLOSE:" + stream)

    def end(self):
        for target in (*self.targets.values(), *self.datagrams.values()):
            target.close()


class LegacyDatagrams(asyncio.DatagramProtocol):
    """What one association's socket receives, sent on as the original does: an IPv6 sender without brackets."""

    def __init__(self, channel, stream):
        self.channel, self.stream = channel, stream

    def datagram_received(self, data, addr):
        sender = f"{addr[0]}:{addr[1]}".encode()
        self.channel.writer.write(frame(BINARY, b"UDP_DATA:" + self.stream + b"|" + sender + b"|" + data, mask=False))
