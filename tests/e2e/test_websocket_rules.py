"""Every rule of RFC 6455 that a peer can break or use, as a table (ws_rules.py), against our server and our client; and
the rules of the opening handshake (section 4) against both."""

import base64
import os
import socket
import ssl

import pytest

import echo
import ws
from conftest import TOKEN
from waiting import SLOWNESS
from ws_rules import FOR_THE_TUNNEL, RULES, Closed, Echo, Pong


def check(rule, peer):
    """Plays one row against an end of ours; a string says what was wrong."""
    frames = rule.frames(peer.frame)
    try:
        peer.sock.sendall(frames)
    except ConnectionError:
        pass  # what is too large may be refused before it is all sent; the answer is still there to be read
    if isinstance(rule.expected, Echo):
        for message in rule.expected:
            kind, payload = peer.receive_message()
            while kind == ws.PONG:
                kind, payload = peer.receive_message()
            assert (kind, payload) == message, (kind, payload[:60])
        peer.sock.sendall(peer.frame(ws.PING, b"still there"))
        assert peer.receive_message() == (ws.PONG, b"still there")
        return
    if isinstance(rule.expected, Pong):
        kind, payload = peer.receive()[1:]
        assert (kind, payload) == (ws.PONG, bytes(rule.expected)), (kind, payload)
        return
    assert isinstance(rule.expected, Closed)
    kind, payload = peer.receive()[1:]
    while kind < 8:  # echoes of what was in order before it
        kind, payload = peer.receive()[1:]
    assert kind == ws.CLOSE, (kind, payload[:60])
    got = int.from_bytes(payload[:2], "big") if payload else 1005
    assert got in rule.expected, got
    payload[2:].decode("utf-8")
    if got != 1005:
        # 5.5.1: the end that answers a Close waits for nothing; one that began needs the answer.
        try:
            peer.sock.sendall(peer.frame(ws.CLOSE, payload[:2]))
        except ConnectionError:
            pass
    assert peer.ends(), "the connection goes on after the Close"


def failures_of(rules, connect):
    """Plays each rule on a connection of its own."""
    failures = []
    for rule in rules:
        with connect() as peer:
            try:
                check(rule, peer)
            except Exception as error:  # the table goes on: one run shows every row that fails
                failures.append(f"{rule.section} {rule.name}: {type(error).__name__}: {error}")
    return failures


class Connection:
    """A Peer that is closed at the end of a `with`."""

    def __init__(self, peer, *others):
        self.peer, self.others = peer, others

    def __enter__(self):
        return self.peer

    def __exit__(self, *_):
        self.peer.sock.close()
        for process in self.others:
            process.wait(20)


def dial(port, subprotocols=None):
    """A client's connection to a server of ours, by plain TCP, upgraded."""
    sock = socket.create_connection(("127.0.0.1", port), 15 * SLOWNESS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(ws.upgrade_head("/", subprotocols, key).replace("\n", "\r\n").encode())
    first, fields = ws.read_head(sock)
    assert first.split()[1] == "101", first
    assert fields["sec-websocket-accept"] == ws.accept_value(key)
    return sock


def answer(head, accept=None, status="HTTP/1.1 101 Switching Protocols", **changes):
    """A server's answer to an upgrade's head; a change of None leaves the field out."""
    key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    fields = {"Upgrade": "websocket", "Connection": "Upgrade",
              "Sec-WebSocket-Accept": ws.accept_value(key.decode()) if accept is None else accept, **changes}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value is not None]
    return ("\r\n".join([status, *lines]) + "\r\n\r\n").encode()


def receive_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += ws.receive_exactly(sock, 1)
    return head


def accept_client(lab, listener, *extra):
    """Starts a client of ours against our listener; the connection and the process."""
    port = listener.getsockname()[1]
    process = echo.client(lab, f"ws://127.0.0.1:{port}/path?q", *(extra or ("-mode", "echo")))
    sock, _ = listener.accept()
    sock.settimeout(15 * SLOWNESS)
    return sock, process


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(15 * SLOWNESS)
        yield sock


@pytest.mark.sanitizers
def test_our_server(lab):
    server = echo.server(lab)
    failures = failures_of(RULES, lambda: Connection(echo.Peer(dial(server.port), masks=True)))
    assert not failures, "\n".join(failures)


def test_our_client(lab, listener):
    def connect():
        sock, process = accept_client(lab, listener)
        sock.sendall(answer(receive_head(sock)))
        return Connection(echo.Peer(sock, masks=False), process)

    failures = failures_of(RULES, connect)
    assert not failures, "\n".join(failures)


def test_the_tunnels_server(lab):
    """The same rules on the tunnel's own port, over TLS."""
    server = lab.server()

    def connect():
        return Connection(echo.Peer(ws.Channel(lab.pki.ca, server.port, TOKEN).sock, masks=True))

    failures = failures_of(FOR_THE_TUNNEL, connect)
    assert not failures, "\n".join(failures)
    assert server.process.running()


def test_the_tunnels_client(lab, listener):
    """What a server breaks ends the channel with the same codes. One rule a dial, and a channel
    for each rule: one that was broken at once would wait ever longer before it dials again."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(lab.pki.cert, lab.pki.key)
    rules = [rule for rule in FOR_THE_TUNNEL if rule.section in ("5.1", "5.4") or rule.name.startswith(
        ("RSV1", "reserved opcode 3", "reserved opcode 11", "Ping", "reason not UTF-8: never", "Close with 1006", "a frame"))]
    client = lab.client(listener.getsockname()[1], "-fallback", up=False, channels=len(rules))

    def connect():
        raw, _ = listener.accept()
        sock = context.wrap_socket(raw, server_side=True)
        sock.settimeout(15 * SLOWNESS)
        sock.sendall(answer(receive_head(sock), Sec_WebSocket_Protocol=TOKEN))
        return Connection(echo.Peer(sock, masks=False))

    failures = failures_of(rules, connect)
    assert len(rules) > 15 and not failures, "\n".join(failures)
    assert client.process.running()


# 4.2.1: what a server wants to see. (name, how upgrade_head is called, the status of the answer)
REQUESTS = [
    ("as it should be", {}, 101),
    ("key that is no base64", {"key": "!!!!!!!!!!!!!!!!!!!!!!=="}, 400),
    ("key of 15 bytes", {"key": base64.b64encode(b"x" * 15).decode()}, 400),
    ("key of 17 bytes", {"key": base64.b64encode(b"x" * 17).decode()}, 400),
    ("empty key", {"key": " "}, 400),
    ("no key", {"drop": ("key",)}, 400),
    ("no version", {"drop": ("version",)}, 400),
    ("version 12", {"drop": ("version",), "extra": "Sec-WebSocket-Version: 12\n"}, 426),
    ("version 0", {"drop": ("version",), "extra": "Sec-WebSocket-Version: 0\n"}, 426),
    ("two versions", {"extra": "Sec-WebSocket-Version: 8\n"}, 400),
    ("two keys", {"extra": "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"}, 400),
    ("no Upgrade", {"drop": ("upgrade",)}, 400),
    ("Upgrade to something else", {"drop": ("upgrade",), "extra": "Upgrade: h2c\n"}, 400),
    ("Upgrade in another case, in a list", {"drop": ("upgrade",), "extra": "Upgrade: h2c, WebSocket\n"}, 101),
    ("no Connection", {"drop": ("connection",)}, 400),
    ("Connection without Upgrade", {"drop": ("connection",), "extra": "Connection: keep-alive\n"}, 400),
    ("Connection as a list, in another case",
     {"drop": ("connection",), "extra": "Connection: keep-alive, UPGRADE\n"}, 101),
    ("no Host", {"drop": ("host",)}, 400),
    ("two Hosts", {"extra": "Host: other\n"}, 400),
    ("a body", {"extra": "Content-Length: 5\n"}, 400),
    ("an extension", {"extra": "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n"}, 101),
    ("an Origin", {"extra": "Origin: https://example.org\n"}, 101),
    ("two Sec-WebSocket-Protocol", {"token": "a", "extra": "Sec-WebSocket-Protocol: b\n"}, 400),
]


@pytest.mark.sanitizers
def test_handshake_of_our_server(lab):
    server = echo.server(lab, "-protocol", "chat,superchat")

    def ask(text):
        with socket.create_connection(("127.0.0.1", server.port), 15 * SLOWNESS) as sock:
            sock.sendall(text.replace("\n", "\r\n").encode("latin-1"))
            first, fields = ws.read_head(sock)
            return int(first.split()[1]), fields

    for name, how, status in REQUESTS:
        code, fields = ask(ws.upgrade_head("/", **how))
        assert code == status, name
        if status == 101:
            assert "sec-websocket-extensions" not in fields, f"{name}: none is offered by us (9.1)"
        elif "version" in name:
            assert fields["sec-websocket-version"] == "13", f"{name}: 4.4"
    good = ws.upgrade_head("/")
    assert ask(good.replace("GET ", "POST ", 1))[0] == 400
    assert ask(good.replace("HTTP/1.1", "HTTP/1.0", 1))[0] == 400
    for offered, taken in (("chat", "chat"), ("other, superchat", "superchat"), ("superchat,chat", "superchat"),
                           ("other", None), ("CHAT", None), (None, None)):
        code, fields = ask(ws.upgrade_head("/", offered))
        assert code == 101 and fields.get("sec-websocket-protocol") == taken, offered


# 4.1: what a client wants to see of the answer. (name, how answer() is called)
ANSWERS = [
    ("status 200", {"status": "HTTP/1.1 200 OK"}),
    ("status 403", {"status": "HTTP/1.1 403 Forbidden"}),
    ("a redirection", {"status": "HTTP/1.1 302 Found", "Location": "ws://127.0.0.1:1/"}),
    ("HTTP/1.0", {"status": "HTTP/1.0 101 Switching Protocols"}),
    ("not HTTP", {"status": "SSH-2.0-OpenSSH"}),
    ("no Upgrade", {"Upgrade": None}),
    ("another Upgrade", {"Upgrade": "h2c"}),
    ("no Connection", {"Connection": None}),
    ("another Connection", {"Connection": "close"}),
    ("no Accept", {"accept": "", "Sec_WebSocket_Accept": None}),
    ("Accept of another key", {"accept": ws.accept_value("dGhlIHNhbXBsZSBub25jZQ==")}),
    ("Accept that is empty", {"accept": ""}),
    ("an extension nobody asked for", {"Sec_WebSocket_Extensions": "permessage-deflate"}),
    ("a subprotocol nobody asked for", {"Sec_WebSocket_Protocol": "chat"}),
]


def test_handshake_of_our_client(lab, listener):
    sock, process = accept_client(lab, listener, "-messages", "1", "-protocol", "lws-mirror-protocol")
    with sock:
        head = receive_head(sock)
        lines = head.decode().split("\r\n")
        fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:-2]}
        assert lines[0] == "GET /path?q HTTP/1.1"
        assert fields["host"] == f"127.0.0.1:{listener.getsockname()[1]}"
        assert fields["upgrade"].lower() == "websocket" and fields["connection"].lower() == "upgrade"
        assert fields["sec-websocket-version"] == "13"
        assert fields["sec-websocket-protocol"] == "lws-mirror-protocol"
        assert len(base64.b64decode(fields["sec-websocket-key"], validate=True)) == 16
        assert "sec-websocket-extensions" not in fields
        sock.sendall(answer(head, Sec_WebSocket_Protocol="lws-mirror-protocol"))
        peer = echo.Peer(sock, masks=False)
        sock.sendall(peer.frame(*peer.receive_message()))
        assert peer.receive_message() == (ws.CLOSE, (1000).to_bytes(2, "big") + b"done")
        sock.sendall(peer.frame(ws.CLOSE, (1000).to_bytes(2, "big")))
        assert peer.ends()
    assert process.wait(20) == 0, process.log()

    keys = {fields["sec-websocket-key"]}
    for name, how in ANSWERS:
        sock, process = accept_client(lab, listener, "-messages", "1")
        with sock:
            head = receive_head(sock)
            keys.add(head.lower().split(b"sec-websocket-key:")[1].split(b"\r\n")[0])
            text = answer(head, **how)
            if how.get("Sec_WebSocket_Accept", "") is None:
                text = text.replace(b"Sec-WebSocket-Accept: \r\n", b"")
            sock.sendall(text + b"\x81\x05hello")
            assert process.wait(20) == 1, name
            lines = process.log().strip().splitlines()
            assert len(lines) == 1 and lines[0].startswith("ws_echo: "), (name, lines)
    assert len(keys) == len(ANSWERS) + 1, "a fresh key for every handshake"


def test_our_client_masks_with_fresh_keys(lab, listener):
    """5.3: every frame has a key of its own, from the system's random source."""
    sock, process = accept_client(lab, listener, "-messages", "300", "-window", "300", "-size", "4")
    with sock:
        sock.sendall(answer(receive_head(sock)))
        keys = set()
        peer = echo.Peer(sock, masks=False)
        for _ in range(300):
            first, second = ws.receive_exactly(sock, 2)
            assert second == 0x84
            key = ws.receive_exactly(sock, 4)
            keys.add(key)
            text = bytes(a ^ b for a, b in zip(ws.receive_exactly(sock, 4), key))
            sock.sendall(peer.frame(first & 0x0f, text))
        assert len(keys) == 300 and sum(key[0] for key in keys) not in (0, 300 * 255)
        assert peer.receive_message()[0] == ws.CLOSE
        sock.sendall(peer.frame(ws.CLOSE, (1000).to_bytes(2, "big")))
    assert process.wait(20) == 0, process.log()


def test_frames_behind_the_head(lab, listener):
    """Frames that come in one piece with the handshake are not lost, in either role."""
    server = echo.server(lab)
    with socket.create_connection(("127.0.0.1", server.port), 15 * SLOWNESS) as sock:
        peer = echo.Peer(sock, masks=True)
        sock.sendall(ws.upgrade_head("/").replace("\n", "\r\n").encode() + peer.frame(ws.TEXT, b"early"))
        assert ws.read_head(sock)[0].split()[1] == "101"
        assert peer.receive_message() == (ws.TEXT, b"early")
    sock, process = accept_client(lab, listener)
    with sock:
        peer = echo.Peer(sock, masks=False)
        sock.sendall(answer(receive_head(sock)) + peer.frame(ws.TEXT, b"early"))
        assert peer.receive_message() == (ws.TEXT, b"early")
    process.wait(20)


@pytest.mark.sanitizers
def test_bytes_one_at_a_time(lab):
    """However the stream is cut: header, length, key, payload."""
    server = echo.server(lab)
    with dial(server.port) as sock:
        peer = echo.Peer(sock, masks=True)
        stream = (peer.frame(ws.TEXT, "h\u00e9llo".encode()) + peer.frame(ws.PING, b"p") +
                  peer.frame(ws.BINARY, b"x" * 130) + peer.frame(ws.CLOSE, (1000).to_bytes(2, "big")))
        for byte in stream:
            sock.sendall(bytes([byte]))
        assert peer.receive_message() == (ws.TEXT, "h\u00e9llo".encode())
        assert peer.receive_message() == (ws.PONG, b"p")
        assert peer.receive_message() == (ws.BINARY, b"x" * 130)
        assert peer.receive_message() == (ws.CLOSE, (1000).to_bytes(2, "big"))
        assert peer.ends()
