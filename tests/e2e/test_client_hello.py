"""What an observer sees first of a connection, beside what Chromium's WebSockets show, both with ECH to one server: only
differences that are listed here, with their reason, and each of those is still there."""

import pytest

from browsers import Chromium, WebSocketPage
from client_hello import GREASE, ClientHello, differences
from conftest import TOKEN
from peers import https_records, start_named
from pki import HIDDEN, PUBLIC

pytestmark = [pytest.mark.one_backend, pytest.mark.protocol("native")]

X25519MLKEM768 = 4588
ML_DSA = [0x0904, 0x0905, 0x0906]
# field -> (only ours, only Chromium's), of a first connection.
KNOWN = {
    # The libraries of 2022 and 2023 in Debian have no ML-KEM.
    "supported_groups": ([], [X25519MLKEM768]),
    "key_share": ([], [(X25519MLKEM768, 1216)]),
    # Nor ML-DSA, and the list cannot hold what the library does not know.
    "signature_algorithms": ([], [GREASE, *ML_DSA]),
    # Later than these libraries too.
    "extensions": ([], ["trust_anchors"]),
}
# And of one that comes back with a ticket, inside ECH: what goes out as early data has to be said outside too (RFC 9849
# section 6.1), and Chromium's WebSockets send none.
KNOWN_BACK = {**KNOWN, "extensions": (["early_data"], ["trust_anchors"])}


def chromium_hellos(lab, server):
    """Of new WebSocket("wss://..."), and of a second one once the first is open."""
    relay = lab.relay(server.port)
    named = start_named(lab, https_records(relay.port, server.config))
    page = lab.keep(WebSocketPage(f"wss://{HIDDEN}:{relay.port}/tunnel", TOKEN, times=2))
    Chromium(lab, named.doh_port, page.url)
    assert page.wait() == "open"
    return [ClientHello(recorded) for recorded in relay.recorded]


def our_hellos(lab, server):
    """Of a channel, and of the one in its place."""
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config)
    relay.cut()
    client.process.wait_log(r"channel \d+ up:", count=2)
    return [ClientHello(recorded) for recorded in relay.recorded]


def test_looks_like_chromium(lab):
    server = lab.server()
    ours, theirs = our_hellos(lab, server), chromium_hellos(lab, server)
    server.process.wait_log(r"channel \d+ up: .*ECH accepted", count=4)
    server.process.wait_log(r"channel \d+ up: .*(resumed|0-RTT)", count=2)
    assert len(ours) == len(theirs) == 2
    for mine, other, known in zip(ours, theirs, (KNOWN, KNOWN_BACK)):
        assert mine.server_name == other.server_name == PUBLIC
        found = differences(mine, other)
        new = {field: pair for field, pair in found.items() if known.get(field) != pair}
        assert not new, f"differences from Chromium that are not listed, (ours, Chromium's): {new}"
        gone = known.keys() - found.keys()
        assert not gone, f"listed differences that are not there any more: {gone}"


def test_order_is_another_each_time(lab):
    """As Chromium's: the extensions are permuted for each connection, but for the GREASE at both ends."""
    server = lab.server()
    relay = lab.relay(server.port)
    lab.client(relay.port, config=server.config, channels=4)
    hellos = [ClientHello(recorded) for recorded in relay.recorded]
    assert len(hellos) == 4 and all(hello.fields["grease_at_the_ends"] for hello in hellos)
    # Those that come back with a ticket say so.
    orders = [tuple(kind for kind in hello.order if kind != "early_data") for hello in hellos]
    assert len({frozenset(order) for order in orders}) == 1
    assert len(set(orders)) > 1
