"""What applications talk to through the tunnel: small servers on loopback, each an asyncio loop in a thread."""

import asyncio
import hashlib
import http.server
import random
import threading

from loop_thread import LoopThread

PATTERN = random.Random(20240607).randbytes(1 << 20)
PATTERN_TWICE = memoryview(PATTERN + PATTERN)


def pattern(seed, size):
    """`size` bytes that differ for every seed; up to 1 MiB."""
    offset = seed * 7919 % len(PATTERN)
    return PATTERN_TWICE[offset:offset + size]


class Origin(LoopThread):
    """Serves handler(reader, writer) on a port of its own; counts connections accepted and still open."""

    def __init__(self, handler, limit=1 << 20):
        self.accepted = self.open = 0
        self._handler = handler
        super().__init__(lambda: asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024, limit=limit))

    async def _serve(self, reader, writer):
        self.accepted += 1
        self.open += 1
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()


async def blocks(reader, writer):
    """`GET seed size` answers that pattern; `PUT seed size` and that many bytes answers their SHA-256."""
    while line := await reader.readline():
        verb, seed, size = line.split()
        if verb == b"GET":
            writer.write(pattern(int(seed), int(size)))
            await writer.drain()
        else:
            writer.write(hashlib.sha256(await reader.readexactly(int(size))).hexdigest().encode() + b"\n")


async def echo(reader, writer):
    while data := await reader.read(1 << 18):
        writer.write(data)
        await writer.drain()


async def banner(reader, writer):
    """Speaks first, like SSH, SMTP and MySQL; then echoes."""
    writer.write(b"SSH-2.0-origin\r\n")
    await writer.drain()
    await echo(reader, writer)


async def answer_and_close(reader, writer):
    """Reads one line, sends 1 MiB, closes: every byte before the close has to arrive."""
    await reader.readline()
    writer.write(pattern(1, 1 << 20))
    await writer.drain()


class Collector:
    """Keeps what it receives, one entry per connection once that has ended."""

    def __init__(self):
        self.received = []

    async def __call__(self, reader, writer):
        data = await reader.read(-1)
        self.received.append(data)


class Firehose:
    """Sends for as long as anyone takes it; `sent` is what the kernel took."""

    def __init__(self):
        self.sent = 0

    async def __call__(self, reader, writer):
        writer.transport.set_write_buffer_limits(high=0)
        chunk = bytes(PATTERN[:65536])
        while True:
            writer.write(chunk)
            await writer.drain()
            self.sent += len(chunk)


class Deaf:
    """Accepts and never reads, until told to."""

    def __init__(self):
        self.received = 0
        self.listen = None

    async def __call__(self, reader, writer):
        self.listen = asyncio.Event()
        writer.transport.pause_reading()
        await self.listen.wait()
        writer.transport.resume_reading()
        while data := await reader.read(1 << 18):
            self.received += len(data)


class Paced:
    """Sends `count` chunks of 1 KiB, one whenever tests say so."""

    def __init__(self, count):
        self.count = count
        self.go = None

    async def __call__(self, reader, writer):
        self.go = asyncio.Semaphore(1)
        for index in range(self.count):
            await self.go.acquire()
            writer.write(pattern(index, 1024))
            await writer.drain()


class Http:
    """GET answers the blob, PUT answers the SHA-256 of what was sent."""

    def __init__(self, blob):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(blob)))
                self.end_headers()
                self.wfile.write(blob)

            def do_PUT(self):
                digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
                while left > 0:
                    data = self.rfile.read(min(left, 1 << 18))
                    if not data:
                        return
                    digest.update(data)
                    left -= len(data)
                body = digest.hexdigest().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
