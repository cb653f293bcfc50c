"""An HTTP/1.1 origin for real clients: bodies of any length with a checksum, both framings, a WebSocket echo, and the
pages that a browser loads. Written on asyncio streams, so that what it does with every byte is in sight."""

import asyncio
import base64
import hashlib
import zlib

from origins import PATTERN, Origin

PAGE = b"""<!doctype html><title>page</title><p id=fetched></p><p id=echoed></p><img src=/hold>
<script>
fetch('/fetched').then(r => r.text()).then(text => {
  document.getElementById('fetched').textContent = text;
  const socket = new WebSocket('ws://' + location.host + '/echo');
  socket.onopen = () => socket.send('through the tunnel');
  socket.onmessage = event => {
    document.getElementById('echoed').textContent = 'echoed: ' + event.data;
    fetch('/done');
  };
});
</script>
"""


def body_of(size):
    """The body of that size, in pieces."""
    while size > 0:
        yield PATTERN[:size]
        size -= len(PATTERN[:size])


def checksum(pieces):
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value


class WebOrigin(Origin):
    """GET and HEAD /bytes/N and /chunks/N; PUT and POST answer `METHOD FRAMING SIZE CHECKSUM`; GET /page."""

    def __init__(self):
        self.heads = []
        self._done = None
        super().__init__(self._connection)

    async def _connection(self, reader, writer):
        while await self._request(reader, writer):
            await writer.drain()

    async def _request(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        self.heads.append(head)
        line, *fields = head[:-4].decode("latin-1").split("\r\n")
        method, path, _ = line.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        if method in ("PUT", "POST"):
            await self._take_body(reader, writer, method, fields)
        elif path == "/echo":
            await self._echo(reader, writer, fields)
            return False
        elif path == "/hold":
            self._done = asyncio.Event()
            await self._done.wait()
            self._answer(writer, b"", "image/png")
        elif path == "/done":
            self._answer(writer, b"done")
            self._done.set()
        elif path == "/page":
            self._answer(writer, PAGE, "text/html")
        elif path == "/fetched":
            self._answer(writer, b"fetched as well")
        else:
            await self._give_body(writer, method, *path.lstrip("/").split("/"))
        return fields.get("connection", "").lower() != "close"

    @staticmethod
    def _answer(writer, body, kind="text/plain"):
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    @staticmethod
    async def _give_body(writer, method, framing, size):
        chunked = framing == "chunks"
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        if method == "HEAD":
            return
        for piece in body_of(int(size)):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\nX-Trailer: here\r\n\r\n")

    async def _take_body(self, reader, writer, method, fields):
        if fields.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = value = 0
        chunked = fields.get("transfer-encoding") == "chunked"
        left = 0 if chunked else int(fields.get("content-length", 0))
        while True:
            if left == 0:
                if not chunked:
                    break
                left = int(await reader.readline(), 16)
                if left == 0:
                    await reader.readline()
                    break
                left += 2
            data = await reader.read(min(left, 1 << 20))
            if not data:
                raise ConnectionError
            left -= len(data)
            if chunked and left < 2:  # the CRLF behind a chunk, as far as it is here
                data = data[:len(data) - (2 - left)] if len(data) >= 2 - left else b""
            size += len(data)
            value = zlib.crc32(data, value)
        self._answer(writer, f"{method} {'chunked' if chunked else 'length'} {size} {value}".encode())

    @staticmethod
    async def _echo(reader, writer, fields):
        """One short text message at a time, as a browser sends it."""
        accept = hashlib.sha1(fields["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n")
        while True:
            first, second = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            data = await reader.readexactly(second & 0x7F)
            data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
            writer.write(bytes([first, len(data)]) + data)
            await writer.drain()
            if first & 15 == 8:
                return
