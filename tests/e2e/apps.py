"""Applications' side of the proxies, written without a library: SOCKS5 and HTTP CONNECT, blocking and asyncio."""

import asyncio
import ipaddress
import socket
import struct

from waiting import SLOWNESS

SOCKS_REPLY_LENGTH = {1: 4 + 2, 4: 16 + 2}


class Refused(Exception):
    """The proxy said no, or hung up instead of an answer."""


def _address(host):
    try:
        ip = ipaddress.ip_address(host)
        return bytes([1 if ip.version == 4 else 4]) + ip.packed
    except ValueError:
        return bytes([3, len(host)]) + host.encode()


def receive_exactly(sock, size):
    """That many bytes; Refused when the stream ends before."""
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = sock.recv_into(view[at:])
        if count == 0:
            raise Refused(f"end of stream after {at} of {size} bytes")
        at += count
    return bytes(data)


def socks5_greeted(proxy_port, timeout=15):
    """A socket that the SOCKS5 proxy waits on for a request."""
    sock = socket.create_connection(("127.0.0.1", proxy_port), timeout * SLOWNESS)
    sock.sendall(b"\x05\x01\x00")
    assert receive_exactly(sock, 2) == b"\x05\x00"
    return sock


def socks5_connect(host, port):
    """CONNECT, as bytes."""
    return b"\x05\x01\x00" + _address(host) + struct.pack(">H", port)


def socks5(proxy_port, host, port, timeout=15):
    """A socket connected to host:port through the SOCKS5 proxy."""
    sock = socket.create_connection(("127.0.0.1", proxy_port), timeout * SLOWNESS)
    try:
        sock.sendall(b"\x05\x01\x00")
        if receive_exactly(sock, 2) != b"\x05\x00":
            raise Refused("method")
        sock.sendall(socks5_connect(host, port))
        head = receive_exactly(sock, 4)
        if head[1] != 0:
            raise Refused(f"reply {head[1]}")
        receive_exactly(sock, SOCKS_REPLY_LENGTH[head[3]])
        return sock
    except BaseException:
        sock.close()
        raise


def http_connect(proxy_port, host, port, timeout=15):
    """A socket connected to host:port through HTTP CONNECT."""
    sock = socket.create_connection(("127.0.0.1", proxy_port), timeout * SLOWNESS)
    try:
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += receive_exactly(sock, 1)
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            raise Refused(head.split(b"\r\n")[0].decode())
        return sock
    except BaseException:
        sock.close()
        raise


async def open_socks5(proxy_port, host, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port, limit=1 << 20)
    writer.write(b"\x05\x01\x00")
    if await reader.readexactly(2) != b"\x05\x00":
        raise Refused("method")
    writer.write(b"\x05\x01\x00" + _address(host) + struct.pack(">H", port))
    head = await reader.readexactly(4)
    if head[1] != 0:
        raise Refused(f"reply {head[1]}")
    await reader.readexactly(SOCKS_REPLY_LENGTH[head[3]])
    return reader, writer


def ends(sock, timeout=5):
    """Whether the peer ends the connection, in whatever way, within the time; data that still comes is dropped."""
    sock.settimeout(timeout * SLOWNESS)
    try:
        while sock.recv(1 << 16):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True
