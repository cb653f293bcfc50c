"""A DoH resolver that means harm: TLS is real, what comes over it is written out byte by byte."""

import socket
import ssl
import struct
import threading

BUDGET = 64 << 20  # what one connection sends at most
QUESTION_END = b"\r\n\r\n"


def frame(kind, payload=b"", flags=0, stream=0):
    """An HTTP/2 frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 8, 9
END_HEADERS = 4
STATUS_200 = b"\x88"  # of HPACK's static table
# A literal that goes into the dynamic table, then references to it of a byte each.
HPACK_BOMB = STATUS_200 + b"\x40\x01x\x7f" + b"\xa1\x1e" + b"y" * 4000 + b"\xbe" * 12000


class Script:
    """What it does once the question is there; `alpn` decides the protocol."""

    def __init__(self, name, act, alpn="http/1.1", tls=True):
        self.name, self.act, self.alpn, self.tls = name, act, alpn, tls


def head(*fields, status="200 OK"):
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


def once(data):
    def act(send, closed):
        send(data)
        closed.wait(60)
    return act


def endlessly(data, first=b""):
    def act(send, _closed):
        send(first)
        for _ in range(BUDGET // len(data)):
            send(data)
    return act


def drip(send, closed):
    send(head("Content-Type: application/dns-message", "Content-Length: 60000"))
    while not closed.wait(0.2):
        send(b"\0")


def silence(_send, closed):
    closed.wait(60)


DNS = "Content-Type: application/dns-message"
SCRIPTS = [
    Script("no-tls", silence, tls=False),
    Script("silence", silence),
    Script("drip", drip),
    Script("a-gigabyte", endlessly(b"\0" * 65536, head(DNS, f"Content-Length: {1 << 30}"))),
    Script("endless-chunks", endlessly(b"8000\r\n" + b"\0" * 0x8000 + b"\r\n",
                                       head(DNS, "Transfer-Encoding: chunked"))),
    Script("endless-until-close", endlessly(b"\0" * 65536, head(DNS))),
    Script("endless-head", endlessly(b"X-Field: " + b"y" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\n")),
    Script("endless-interim", endlessly(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")),
    Script("redirect", once(head("Location: https://127.0.0.1:1/", "Content-Length: 0", status="302 Found"))),
    Script("wrong-type", once(head("Content-Type: text/html", "Content-Length: 2") + b"hi")),
    Script("compressed", once(head(DNS, "Content-Encoding: gzip", "Content-Length: 20") + b"\x1f\x8b" + b"\0" * 18)),
    Script("garbage", once(b"\xff" * 4096)),
    Script("h2-settings", endlessly(frame(SETTINGS)), "h2"),
    Script("h2-pings", endlessly(frame(PING, b"12345678")), "h2"),
    Script("h2-window-updates", endlessly(frame(WINDOW_UPDATE, b"\0\0\0\1")), "h2"),
    Script("h2-empty-data", endlessly(frame(DATA, stream=1), frame(HEADERS, STATUS_200, END_HEADERS, 1)), "h2"),
    Script("h2-continuations", endlessly(frame(CONTINUATION, stream=1), frame(HEADERS, STATUS_200, 0, 1)), "h2"),
    Script("h2-resets", endlessly(frame(RST_STREAM, b"\0\0\0\1", stream=1)), "h2"),
    Script("h2-push", endlessly(frame(PUSH_PROMISE, b"\0\0\0\2" + STATUS_200, END_HEADERS, 1)), "h2"),
    Script("h2-hpack-bomb", once(frame(HEADERS, HPACK_BOMB, END_HEADERS, 1)), "h2"),
    Script("h2-huge-body", endlessly(frame(DATA, b"\0" * 16384, stream=1), frame(
        HEADERS, STATUS_200 + b"\x0f\x10\x17application/dns-message", END_HEADERS, 1)), "h2"),
    Script("h2-garbage", endlessly(b"\xff" * 4096), "h2"),
]


class HostileResolver:
    """Listens; counts the connections that got as far as a question."""

    def __init__(self, script, pki):
        self.script, self.asked = script, 0
        self._closed = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki.cert, pki.key)
        self._context.set_alpn_protocols([script.alpn])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.settimeout(60)
            if self.script.tls:
                connection = self._context.wrap_socket(connection, server_side=True)
                received = b""
                wanted = b"PRI * HTTP/2.0" if self.script.alpn == "h2" else QUESTION_END
                while wanted not in received:
                    received += connection.recv(65536)
                if self.script.alpn == "h2":
                    connection.sendall(frame(SETTINGS))
            self.asked += 1
            self.script.act(connection.sendall, self._closed)
        except OSError:
            pass
        finally:
            connection.close()

    def stop(self):
        self._closed.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
