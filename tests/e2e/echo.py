"""bench/ws_echo, the WebSocket echo server and client on our reactor, TLS and codec, under test like the tunnel."""

import os
import pathlib

import pytest

import ws
from procs import free_port
from waiting import SLOWNESS


def program(lab):
    path = os.environ.get("WS_ECHO_BIN", str(pathlib.Path(lab.binary).parents[1] / "bench" / "ws_echo"))
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is not there: build it, or set WS_ECHO_BIN")
    return path


class EchoServer:
    def __init__(self, process, port, scheme):
        self.process, self.port, self.url = process, port, f"{scheme}://127.0.0.1:{port}/"


def server(lab, *extra, tls=False):
    port = free_port()
    scheme = "wss" if tls else "ws"
    identity = ["-cert", lab.pki.cert, "-key", lab.pki.key] if tls else []
    process = lab.start("ws_echo", program(lab), "-l", f"{scheme}://127.0.0.1:{port}/", "-backend", lab.backend,
                        *identity, *extra)
    process.wait_log(r"listening on")
    return EchoServer(process, port, scheme)


def client(lab, url, *extra):
    return lab.start("ws_echo_client", program(lab), "-c", url, "-backend", lab.backend, *extra)


def run_client(lab, url, *extra):
    """Runs a client to its end; its exit status and what it printed."""
    process = client(lab, url, *extra)
    status = process.wait(60)
    return status, process.log()


class Peer:
    """One end of a connection whose other end is ours, after the upgrade: the frames we send may be as wrong as a test
    wants. `masks`: whether we play the client."""

    def __init__(self, sock, masks):
        self.sock, self.masks = sock, masks
        self.sock.settimeout(15 * SLOWNESS)

    def frame(self, opcode, payload=b"", flip=False, claim=None, **how):
        masks = self.masks != flip
        if claim is not None:
            return bytes([0x80 | opcode, (0x80 if masks else 0) | 127]) + claim.to_bytes(8, "big") + b"mask" * masks
        return ws.frame(opcode, payload, mask=masks, **how)

    def receive(self):
        """The next frame as (fin, opcode, payload), unmasked; its header has to be as the other role's must be."""
        first, second = ws.receive_exactly(self.sock, 2)
        assert bool(second & 0x80) != self.masks, "the wrong end masks"
        assert not first & 0x70, "no extension was negotiated"
        size = second & 0x7f
        if size >= 126:
            length = 2 if size == 126 else 8
            size = int.from_bytes(ws.receive_exactly(self.sock, length), "big")
            assert size > (125 if length == 2 else 65535), "length is not minimal"
        key = b"" if self.masks else ws.receive_exactly(self.sock, 4)
        payload = ws.receive_exactly(self.sock, size)
        if key:
            payload = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload)) if size < 4096 else \
                (int.from_bytes(payload, "big") ^ int.from_bytes((key * (size // 4 + 1))[:size], "big")).to_bytes(
                    size, "big")
        assert first & 0x0f < 8 or (first & 0x80 and size < 126), "control frames are short and whole"
        return bool(first & 0x80), first & 0x0f, payload

    def receive_message(self):
        """The next whole message as (opcode, payload), or a control frame that came outside of one."""
        kind, whole = None, b""
        while True:
            fin, opcode, payload = self.receive()
            if opcode >= 8:
                if opcode == ws.PING:
                    self.sock.sendall(self.frame(ws.PONG, payload))
                    continue
                if kind is None or opcode == ws.CLOSE:
                    return opcode, payload
                continue
            assert (opcode == ws.CONTINUATION) == (kind is not None), "fragments in order"
            kind = opcode if kind is None else kind
            whole += payload
            if fin:
                return kind, whole

    def ends(self):
        """Nothing but the end of the stream comes."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True
