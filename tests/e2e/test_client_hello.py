"""What an observer sees first of a connection, beside what Chromium's WebSockets show: only differences that are listed
here, with their reason, and each of those is still there."""

import socket

import pytest

from browsers import CHROMIUM, Browser, WebSocketPage, need
from client_hello import GREASE, ClientHello, differences, handshake_message
from conftest import TOKEN
from pki import HIDDEN, PUBLIC
from waiting import SLOWNESS

# Known differences, field -> (only ours, only Chromium's). Values without a name in BoringSSL's headers:
X25519MLKEM768 = 4588
ML_DSA = [0x0904, 0x0905, 0x0906]
KNOWN = {
    # The libraries of 2022 and 2023 in Debian have no ML-KEM group.
    "supported_groups": ([], [X25519MLKEM768]),
    "key_share": ([], [(X25519MLKEM768, 1216)]),
    # Later than these libraries, too.
    "extensions": ([], ["trust_anchors"]),
    # The list cannot hold what the library does not know.
    "signature_algorithms": ([], [GREASE, *ML_DSA]),
}


class FirstFlight:
    """Listens, and gives what the first connection sends until there is a whole handshake message."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def receive(self, timeout):
        self._listener.settimeout(timeout * SLOWNESS)
        connection, _ = self._listener.accept()
        captured = b""
        with connection:
            connection.settimeout(timeout * SLOWNESS)
            while handshake_message(captured) is None:
                received = connection.recv(1 << 16)
                assert received, "ended before a whole ClientHello"
                captured += received
        return captured

    def stop(self):
        self._listener.close()


def chromium_hello(lab):
    """Of new WebSocket("wss://..."), with a GREASE ECH extension: no DNS tells this one of a key."""
    need("chromium")
    sink = lab.keep(FirstFlight())
    page = lab.keep(WebSocketPage(f"wss://{HIDDEN}:{sink.port}/tunnel", TOKEN))
    home = lab.path("chromium")
    lab.keep(Browser([*CHROMIUM, f"--user-data-dir={home}/profile", f"--host-resolver-rules=MAP {HIDDEN} 127.0.0.1",
                      "--timeout=120000", "--dump-dom", page.url], home))
    return ClientHello(sink.receive(150))


def our_hello(lab):
    server = lab.server()
    relay = lab.relay(server.port)
    lab.client(relay.port, config=server.config)
    return ClientHello(relay.recorded[0])


@pytest.mark.one_backend
@pytest.mark.protocol("native")
def test_looks_like_chromium(lab):
    theirs, ours = chromium_hello(lab), our_hello(lab)
    assert theirs.server_name == HIDDEN and ours.server_name == PUBLIC
    found = differences(ours, theirs)
    new = {field: pair for field, pair in found.items() if KNOWN.get(field) != pair}
    gone = {field: pair for field, pair in KNOWN.items() if field not in found}
    assert not new, f"differences from Chromium that are not listed, (ours, Chromium's): {new}"
    assert not gone, f"listed differences that are not there any more: {gone}"


@pytest.mark.one_backend
@pytest.mark.protocol("native")
def test_order_is_another_each_time(lab):
    """As Chromium's: the extensions are permuted for each connection, but for the GREASE at both ends."""
    server = lab.server()
    relay = lab.relay(server.port)
    lab.client(relay.port, config=server.config, channels=4)
    hellos = [ClientHello(recorded) for recorded in relay.recorded]
    assert len(hellos) == 4 and all(hello.fields["grease_at_the_ends"] for hello in hellos)
    # Those that come back with a ticket say so.
    sets = [set(hello.fields["extensions"]) - {"early_data"} for hello in hellos]
    assert all(extensions == sets[0] for extensions in sets)
    assert len({tuple(hello.order) for hello in hellos}) > 1
