"""No packet of a client tells the name of its server: not in DNS, not in TLS, whatever happens. Everything that crosses a
network namespace is captured."""

import subprocess

import pytest

import apps
from capture import Capture, network_namespace
from origins import echo
from peers import https_records, start_named
from pki import HIDDEN, PUBLIC
from waiting import SLOWNESS, wait_until

# The label alone: it is in the name as text and in the wire form of DNS, which has no dots.
SECRET = HIDDEN.split(".", maxsplit=1)[0].encode()


@pytest.fixture(scope="module", autouse=True)
def network():
    with network_namespace():
        yield


@pytest.fixture
def capture(lab, network):  # pylint: disable=unused-argument
    return lab.keep(Capture())


def use(client, origin):
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"through")
        assert apps.receive_exactly(sock, 7) == b"through"


def doh(named):
    return ["-dns", f"https://127.0.0.1:{named.doh_port}/dns-query", "-ech", "auto"]


class Channels:
    """Waits for channels to come up, counted from the last time."""

    def __init__(self, client):
        self._client, self._seen = client, 0

    def wait(self, more, what=""):
        self._seen += more
        self._client.process.wait_log(rf"channel \d+ up: .*ECH accepted.*{what}", count=self._seen, timeout=90)


@pytest.mark.sanitizers
def test_the_name_is_nowhere(lab, capture):
    origin = lab.origin(echo)
    keys = lab.keygen()
    server = lab.server(keys=keys)
    relay = lab.relay(server.port)
    named = start_named(lab, https_records(relay.port, server.config))
    # Start.
    client = lab.client(relay.port, *doh(named), pin_address=False, channels=2)
    up = Channels(client)
    up.wait(2)
    use(client, origin)
    # Loss of the channels, and the return with tickets.
    relay.cut()
    up.wait(2)
    assert "0-RTT" in client.process.log()
    use(client, origin)
    # Rotation: the published list is stale, is rejected, and retried with what the server sent.
    for path in list(keys.iterdir()):
        mark = server.process.mark()
        subprocess.run([lab.binary, "ech-keygen", "-public-name", PUBLIC, "-out", keys], check=True, timeout=30,
                       stdout=subprocess.DEVNULL)
        path.unlink()
        server.process.wait_log(r"ECH keys: 1 accepted", since=mark)
    relay.cut()
    up.wait(2)
    wait_until(lambda: client.process.counters()["ech_rejected"] > 0, what="a rejection")
    use(client, origin)
    # The resolver is gone, then the server is for a while.
    named.stop()
    relay.cut()
    up.wait(2)
    server.process.stop()
    again = lab.server(keys=keys, port=server.port)
    up.wait(2)
    use(client, origin)
    # A second client that knows only what is stale, and a check of the server.
    named = start_named(lab, https_records(relay.port, server.config))
    other = lab.client(relay.port, *doh(named), pin_address=False)
    Channels(other).wait(1)
    subprocess.run([lab.binary, "check", "-f", f"wss://{HIDDEN}:{relay.port}/tunnel", *doh(named), "-ca", lab.pki.ca],
                   check=False, timeout=60 * SLOWNESS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert again.process.running()
    capture.stop()
    everything = capture.everything()
    assert everything.count(PUBLIC.encode()) >= 10, "the ClientHellos are not in it"
    assert SECRET not in everything
    for client_log in (client, other):
        assert "WITHOUT ECH" not in client_log.process.log()


def test_it_would_be_seen(lab, capture):
    """The control: the same capture finds the name where -fallback puts it."""
    origin = lab.origin(echo)
    server = lab.server()
    client = lab.client(server.port, "-fallback")
    use(client, origin)
    capture.stop()
    assert SECRET in capture.everything()


@pytest.mark.one_backend
def test_a_question_in_clear_would_be_seen(lab, capture):
    """The other control: DNS without HTTPS."""
    named = start_named(lab, "secret 60 IN A 127.0.0.1")
    subprocess.run(["dig", "@127.0.0.1", "-p", str(named.dns_port), HIDDEN], check=True, timeout=60,
                   stdout=subprocess.DEVNULL)
    capture.stop()
    assert SECRET in capture.everything()


def test_without_a_resolver_nothing_is_sent(lab, capture, stale_config):
    """DoH is blocked and nothing is known: there is no attempt, with or without ECH; nor with a list that no server
    accepts."""
    server = lab.server()
    dead = lab.relay(1)
    client = lab.client(server.port, "-dns", f"https://127.0.0.1:{dead.port}/dns-query", "-ech", "auto",
                        pin_address=False, up=False)
    client.process.wait_log(r"dial failed: .*no connection without ECH", count=2, timeout=60)
    assert server.process.counters()["connections_accepted"] == 0
    certificate = lab.pki.issue("hidden-only", [HIDDEN])
    other = lab.server(cert=certificate)
    rejected = lab.client(other.port, config=stale_config, up=False)
    rejected.process.wait_log(r"dial failed", count=2, timeout=60)
    capture.stop()
    assert SECRET not in capture.everything()
    assert " up:" not in client.process.log() + rejected.process.log()
