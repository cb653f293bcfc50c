"""Options of the client: several addresses, pins, several resolvers, the protocol by name."""

import base64
import hashlib
import re
import socket
import threading
import time

import pytest

import apps
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from conftest import TOKEN
from ech_bytes import read_pem_folder
from origins import echo
from pki import HIDDEN
from procs import free_port
from waiting import SLOWNESS, wait_until


def use(client, origin):
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"


def key_hash(path):
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return hashlib.sha256(certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).digest()


class Silent:
    """Accepts and never says a word."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._held = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            while True:
                self._held.append(self._listener.accept()[0])
        except OSError:
            pass

    @property
    def accepted(self):
        return len(self._held)

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._held:
            sock.close()


@pytest.mark.sanitizers
def test_several_addresses_with_channels_on_each(lab):
    """-ip a,b -n 2: two channels to each address, and all of them carry streams."""
    origin = lab.origin(echo)
    port = free_port()
    keys = lab.keygen()
    state = lab.path("state")
    state.mkdir()
    server = lab.run("server", "-l", f"wss://0.0.0.0:{port}/tunnel", "-cert", lab.pki.cert, "-key", lab.pki.key,
                     "-ech-keys", keys, "-ech-public-name", "cover.test", "-state", state, "-token",
                     TOKEN, "-allow-target", "127.0.0.0/8:*")
    server.wait_log(r"listening on wss://")
    client = lab.client(port, "-ip", "127.0.0.1,127.0.0.2", config=read_pem_folder(keys), channels=2,
                        pin_address=False, up=False)
    client.process.wait_log(r"channel \d+ up:", count=4)
    peers = re.findall(r"channel \d+ up: (127\.0\.0\.\d):", client.process.log())
    assert sorted(peers) == ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"]
    for _ in range(20):
        use(client, origin)


def test_an_address_that_is_dead(lab):
    """Its channels back off; those to the other address work."""
    origin = lab.origin(echo)
    server = lab.server()
    client = lab.client(server.port, "-ip", "127.0.0.9,127.0.0.1", config=server.config, channels=1,
                        pin_address=False, up=False)
    client.process.wait_log(r"channel \d+ up: 127\.0\.0\.1:")
    client.process.wait_log(r"dial failed: connect to 127\.0\.0\.9:\d+: connection refused")
    use(client, origin)


@pytest.mark.sanitizers
@pytest.mark.parametrize("form", ["hex", "base64", "upper"])
def test_pin(lab, form):
    """The key's hash in any spelling. With the pin alone, no -ca is needed: the key decides."""
    origin = lab.origin(echo)
    server = lab.server()
    pin = key_hash(lab.pki.cert)
    text = {"hex": pin.hex(), "base64": base64.b64encode(pin).decode(), "upper": pin.hex().upper()}[form]
    state = lab.path("state")
    state.mkdir()
    port = free_port()
    client = lab.run("client", "-l", f"proxy://127.0.0.1:{port}", "-f", f"wss://{HIDDEN}:{server.port}/tunnel", "-ip",
                     "127.0.0.1", "-n", "1", "-ech-config", server.config, "-token", TOKEN, "-pin",
                     text, "-state", state)
    client.wait_log(r"channel 1 up: .*ECH accepted")
    with apps.socks5(port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"


@pytest.mark.sanitizers
def test_wrong_pin(lab):
    """A certificate that -ca trusts, and a key that is not the pinned one: no channel."""
    server = lab.server()
    client = lab.client(server.port, "-pin", "ab" * 32, config=server.config, up=False)
    client.process.wait_log(r"dial failed: .*(?i:pin|key)")
    assert " up:" not in client.process.log()


@pytest.mark.sanitizers
def test_a_resolver_that_hangs_costs_a_fifth_of_a_second(lab):
    """The second resolver is asked 200 ms later, side by side."""
    origin = lab.origin(echo)
    silent = lab.keep(Silent())
    server = lab.server("-serve-dns")
    started = time.monotonic()
    client = lab.client(server.port, "-dns",
                        f"https://127.0.0.1:{silent.port}/dns-query,https://127.0.0.1:{server.port}/dns-query", "-ech",
                        "auto", pin_address=False)
    assert time.monotonic() - started < 4 * SLOWNESS
    assert silent.accepted >= 1
    use(client, origin)


def test_resolvers_that_refuse_or_are_gone(lab):
    """Nobody listens at the first, the second knows nothing of HTTP: the third answers."""
    origin = lab.origin(echo)
    nonsense = lab.origin(echo)
    server = lab.server("-serve-dns")
    urls = ",".join(f"https://127.0.0.1:{port}/dns-query" for port in (free_port(), nonsense.port, server.port))
    client = lab.client(server.port, "-dns", urls, "-ech", "auto", pin_address=False)
    use(client, origin)


def test_all_resolvers_fail(lab):
    """Each is named with its reason, and there is no connection."""
    ports = [free_port(), free_port()]
    server = lab.server()
    client = lab.client(server.port, "-dns", ",".join(f"https://127.0.0.1:{port}/dns-query" for port in ports), "-ech",
                        "auto", pin_address=False, up=False)
    client.process.wait_log(rf"dial failed: .*127\.0\.0\.1:{ports[0]}.*127\.0\.0\.1:{ports[1]}")
    assert server.process.counters()["connections_accepted"] == 0


@pytest.mark.sanitizers
def test_proto_legacy(lab):
    origin = lab.origin(echo)
    server = lab.server()
    client = lab.client(server.port, "-proto", "legacy", config=server.config)
    client.process.wait_log(r"channel 1 up: .*legacy")
    use(client, origin)


def test_fallback_is_said_at_every_start(lab):
    origin = lab.origin(echo)
    server = lab.server()
    for _ in range(2):
        client = lab.client(server.port, "-fallback")
        client.process.wait_log(r"-fallback: .*WITHOUT ECH")
        client.process.wait_log(r"channel 1 up: .*WITHOUT ECH")
        use(client, origin)
        assert client.process.stop() == 0
    wait_until(lambda: server.process.counters()["ech_accepted"] == 0, what="no ECH to have been counted")
