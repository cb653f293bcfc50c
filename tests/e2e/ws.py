"""WebSocket by hand (RFC 6455): frames can be as wrong as a test wants them."""

import base64
import hashlib
import os
import socket
import ssl
import struct

from apps import Refused, receive_exactly
from pki import HIDDEN
from waiting import SLOWNESS

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def tls_connect(ca, port, server_name=HIDDEN, timeout=15):
    """A TLS 1.3 connection as any client without ECH makes it."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    raw = socket.create_connection(("127.0.0.1", port), timeout * SLOWNESS)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        return context.wrap_socket(raw, server_hostname=server_name)
    except BaseException:
        raw.close()
        raise


def read_head(sock):
    """A message head: its first line and its fields, names in lower case."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive_exactly(sock, 1)
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    fields = {}
    for line in lines:
        name, value = line.split(":", 1)
        fields[name.strip().lower()] = value.strip()
    return first, fields


def request(ca, port, text):
    """Sends a request head over TLS, returns the status and the fields of the answer."""
    with tls_connect(ca, port) as sock:
        sock.sendall(text.replace("\n", "\r\n").encode("latin-1"))
        first, fields = read_head(sock)
        return int(first.split()[1]), fields


def upgrade_head(path="/tunnel", token=None, key=None, drop=(), extra=""):
    key = key or base64.b64encode(os.urandom(16)).decode()
    lines = {"host": f"Host: {HIDDEN}", "upgrade": "Upgrade: websocket", "connection": "Connection: Upgrade",
             "key": f"Sec-WebSocket-Key: {key}", "version": "Sec-WebSocket-Version: 13"}
    if token is not None:
        lines["token"] = f"Sec-WebSocket-Protocol: {token}"
    fields = "".join(line + "\n" for name, line in lines.items() if name not in drop)
    return f"GET {path} HTTP/1.1\n{fields}{extra}\n"


def accept_value(key):
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def frame(opcode, payload=b"", mask=True, fin=True, rsv=0, length_bytes=None):
    """One frame. length_bytes forces 2 or 8 bytes of extended length, minimal or not."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    code = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([first, (0x80 if mask else 0) | code]) + (size.to_bytes(length_bytes, "big") if length_bytes else b"")
    if not mask:
        return head + payload
    key = os.urandom(4)
    repeated = key * (size // 4 + 1)
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:size], "big")).to_bytes(size, "big")
    return head + key + masked


class Channel:
    """The client's side of one WebSocket connection."""

    def __init__(self, ca, port, token=None, path="/tunnel"):
        self.sock = tls_connect(ca, port)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(upgrade_head(path, token, key).replace("\n", "\r\n").encode())
        first, self.fields = read_head(self.sock)
        if first.split()[1] != "101":
            self.sock.close()
            raise Refused(first)
        assert self.fields["sec-websocket-accept"] == accept_value(key)
        assert self.fields["upgrade"].lower() == "websocket"

    def send(self, opcode, payload=b"", **how):
        self.sock.sendall(frame(opcode, payload, **how))

    def receive_frame(self):
        first, second = receive_exactly(self.sock, 2)
        assert not second & 0x80, "a server must not mask"
        assert not first & 0x70, "no extension was negotiated"
        size = second & 0x7f
        if size == 126:
            size, = struct.unpack(">H", receive_exactly(self.sock, 2))
            assert size >= 126, "length is not minimal"
        elif size == 127:
            size, = struct.unpack(">Q", receive_exactly(self.sock, 8))
            assert size >= 65536, "length is not minimal"
        payload = receive_exactly(self.sock, size)
        assert first & 0x0f < 8 or (first & 0x80 and size < 126), "control frames are short and whole"
        return bool(first & 0x80), first & 0x0f, payload

    def receive(self, kinds=(TEXT, BINARY)):
        """The next whole message of one of the kinds; answers Pings on the way."""
        message, kind = b"", None
        while True:
            fin, opcode, payload = self.receive_frame()
            if opcode == PING:
                self.send(PONG, payload)
            if opcode >= 8:
                if opcode in kinds:
                    return opcode, payload
                if opcode == CLOSE:
                    raise Refused(f"closed: {payload!r}")
                continue
            kind = opcode if opcode else kind
            message += payload
            if fin and kind in kinds:
                return kind, message
            if fin:
                message = b""

    def close_code(self):
        """Reads to the Close frame, returns its code, and checks that the connection ends after it."""
        _, payload = self.receive(kinds=(CLOSE,))
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        try:
            self.send(CLOSE, payload[:2])
        except OSError:
            pass
        return code

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
