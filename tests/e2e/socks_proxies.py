"""SOCKS5 proxies for a server to go out through: dante and microsocks, and one that does whatever a test wants."""

import asyncio
import os
import shutil
import struct

import pytest

from loop_thread import LoopThread
from peers import listens
from procs import free_port
from waiting import wait_until

# Debian 13 has no dante.
needs_dante = pytest.mark.skipif(shutil.which("danted") is None, reason="dante-server is not installed")
DANTED = pytest.param("danted", marks=needs_dante)


def start_danted(lab, blocked_port=None):
    """dante-server without authentication; connections to 127.0.0.1:blocked_port are against its rules."""
    port = free_port()
    folder = lab.path("danted")
    folder.mkdir()
    block = f"socks block {{ from: 0.0.0.0/0 to: 127.0.0.1/32 port = {blocked_port} }}" if blocked_port else ""
    (folder / "danted.conf").write_text(f"""
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
{block}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 command: connect udpassociate }}
socks pass {{ from: 0.0.0.0/0 to: 127.0.0.0/8 command: udpreply }}
""")
    process = lab.start("danted", "danted", "-f", folder / "danted.conf", "-p", folder / "pid")
    wait_until(lambda: listens(port), what="danted to listen")
    return process, port


def start_microsocks(lab, user=None, password=None):
    port = free_port()
    arguments = ["-u", user, "-P", password] if user else []
    process = lab.start("microsocks", "microsocks", "-i", "127.0.0.1", "-p", port, *arguments)
    wait_until(lambda: listens(port), what="microsocks to listen")
    return process, port


class SocksProxy(LoopThread):
    """A SOCKS5 proxy of our own: notes what it is asked for, resolves names from `names`, and misbehaves on demand.

    behave: None, or what it does instead of answering the request: bytes that it sends, "hang", "close".
    greet: the same for the greeting."""

    def __init__(self, names=None, path=None, greet=None, behave=None):
        self.names, self.path, self.greet, self.behave = names or {}, path, greet, behave
        self.requests = []  # (address type, host, port)
        self.connections = 0
        super().__init__(self._start)

    def _start(self):
        if self.path:
            return asyncio.start_unix_server(self._serve, self.path)
        return asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            await self._negotiate(reader, writer)
        except (ConnectionError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _instead(self, what, reader, writer):
        if what == "hang":
            await reader.read()  # until the other side gives up
        elif what != "close":
            writer.write(what)
            await writer.drain()
            await reader.read()

    async def _negotiate(self, reader, writer):
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        if self.greet is not None:
            await self._instead(self.greet, reader, writer)
            return
        writer.write(b"\x05\x00")
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            raw = await reader.readexactly(4 if kind == 1 else 16)
            host = ".".join(map(str, raw)) if kind == 1 else raw.hex()
        port, = struct.unpack(">H", await reader.readexactly(2))
        self.requests.append((kind, host, port))
        if self.behave is not None:
            await self._instead(self.behave, reader, writer)
            return
        far_reader, far_writer = await asyncio.open_connection(self.names.get(host, host), port)
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    @staticmethod
    async def _pump(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    def stop(self):
        super().stop()
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)
