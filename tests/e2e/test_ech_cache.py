"""What a client keeps of its server: across a rejection, across restarts, without DoH, without a resolver's help."""

import base64
import re
import subprocess

import pytest

import apps
from ech_bytes import ECH_EXTENSION, Key, client_hello
from origins import echo
from peers import https_records, listens, start_named
from pki import HIDDEN, PUBLIC
from procs import free_port
from waiting import wait_until

HOUR = 3600
DAY = 24 * HOUR


def use(client, origin):
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"


def doh(port):
    return ["-dns", f"https://127.0.0.1:{port}/dns-query", "-ech", "auto"]


class State:
    """A -state directory with the client's cache in it, read and written independently of the program."""

    def __init__(self, lab):
        self.folder = lab.path("state")
        self.folder.mkdir()
        self.file = self.folder / "ech-cache"

    def lists(self):
        """The ECHConfigLists in it, in base64, by the server line they belong to."""
        found, server = {}, None
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        if lines:
            assert lines[0] == "ech-tunnel ech-cache 1" and lines[-1] == "end"
        for line in lines:
            words = line.split(" ")
            if words[0] == "server":
                server = " ".join(words[1:])
            elif words[0] == "list":
                found[server] = (words[1], words[4])
        return found

    def wait_list(self, config):
        wait_until(lambda: config in [text for _, text in self.lists().values()], what="the list in the file", timeout=60)

    def age(self, seconds):
        """Makes everything in it so much older."""
        def older(match):
            return f"{match.group(1)}{int(match.group(2)) - seconds} {int(match.group(3)) - seconds}"
        text = re.sub(r"^((?:list \w+|addresses) )(\d+) (\d+)", older, self.file.read_text(), flags=re.MULTILINE)
        self.file.write_text(text)


class Published:
    """A tunnel server behind a relay, its record at bind9, and bind9 behind a relay that can be blocked."""

    def __init__(self, lab, config=None, *server_arguments):
        self.server = lab.server(*server_arguments)
        self.relay = lab.relay(self.server.port)
        self.named = start_named(lab, https_records(self.relay.port, config or self.server.config))
        self.resolver = lab.relay(self.named.doh_port)

    def client(self, lab, state, *extra, **options):
        return lab.client(self.relay.port, *doh(self.resolver.port), *extra, pin_address=False, state=state.folder, **options)

    def block_doh(self):
        """Its TCP connects, and nothing ever comes back."""
        self.resolver.pass_on(to_server=False, to_client=False)


@pytest.mark.sanitizers
def test_starts_from_the_file_while_doh_is_blocked(lab):
    """Nobody waits for the resolver, although what is known has expired."""
    origin = lab.origin(echo)
    state = State(lab)
    published = Published(lab)
    first = published.client(lab, state)
    state.wait_list(published.server.config)
    assert state.file.stat().st_mode & 0o777 == 0o600
    assert first.process.stop() == 0

    state.age(6 * DAY)
    published.block_doh()
    second = published.client(lab, state)
    use(second, origin)
    second.process.wait_log(r"the ECHConfigList is from .*ech-cache, 6 days old, expired, and used until DoH has answered")
    second.process.wait_log(r"going on with what was looked up 6 days ago: .*127\.0\.0\.1", timeout=30)
    log = second.process.log()
    assert log.index("channel 1 up:") < log.index("going on with what was looked up")
    assert HIDDEN.encode() not in published.relay.client_bytes()


def test_what_is_too_old_is_not_used(lab):
    state = State(lab)
    published = Published(lab)
    published.client(lab, state).process.stop()
    state.wait_list(published.server.config)
    state.age(8 * DAY)
    published.block_doh()
    connections = published.relay.connections
    client = published.client(lab, state, up=False)
    client.process.wait_log(r"dial failed: no connection without ECH: .*asked \d+ s ago", timeout=40)
    assert published.relay.connections == connections


@pytest.mark.sanitizers
def test_nothing_known_and_doh_blocked(lab):
    """Said with each attempt; nobody dials the server, with ECH or without."""
    state = State(lab)
    published = Published(lab)
    published.block_doh()
    client = published.client(lab, state, up=False)
    client.process.wait_log(r"channel 1: dial failed: no connection without ECH: no ECHConfigList is known for "
                            rf"{HIDDEN}: ECH config of {HIDDEN} from https://127\.0\.0\.1:\d+/dns-query: .*"
                            r"\(asked \d+ s ago\); next attempt in \d+ ms", count=3, timeout=60)
    assert published.relay.connections == 0
    assert state.lists() == {}
    published.resolver.pass_on()
    published.resolver.cut()
    client.process.wait_log(r"channel 1 up: .*ECH accepted", timeout=90)


@pytest.mark.sanitizers
def test_retry_configs_are_kept(lab, stale_config):
    """The DNS is behind the server's key: one handshake is rejected, and none after it, not after a restart either."""
    state = State(lab)
    published = Published(lab, stale_config)
    client = published.client(lab, state, "-threads", 1, channels=3)
    assert published.relay.connections == 4
    state.wait_list(published.server.config)
    assert [origin for origin, _ in state.lists().values()] == ["retry"]
    published.relay.cut()
    client.process.wait_log(r"channel \d+ up: .*ECH accepted", count=6, timeout=30)
    assert client.process.log().count("ECH rejected") == 1
    assert client.process.stop() == 0

    for blocked in (False, True):
        if blocked:
            published.block_doh()
        state.age(2 * HOUR)
        connections = published.relay.connections
        again = published.client(lab, state, "-threads", 1)
        assert published.relay.connections == connections + 1
        assert "ECH rejected" not in again.process.log()
        if not blocked:
            wait_until(lambda: again.process.counters()["server_lookups"] == 1, what="the DNS to bring the old list again")
            published.relay.cut()
            again.process.wait_log(r"channel \d+ up: .*ECH accepted", count=2, timeout=30)
            assert "ECH rejected" not in again.process.log()
        again.process.stop()
    assert HIDDEN.encode() not in published.relay.client_bytes()


def test_a_list_given_by_hand_is_stood_in_for(lab, stale_config):
    """-ech-config out of date: the server's list is used until the process ends, and said to the operator."""
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, "-threads", 1, config=stale_config, channels=3)
    assert relay.connections == 4
    said = client.process.wait_log(r"the server does not accept -ech-config any more; .*-ech-config (\S+)$")
    assert len(said) == 1 and said[0].group(1) == server.config


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"ech-tunnel ech-cache 2\nend\n",
                                     b"ech-tunnel ech-cache 1\nserver secret.test 443"],
                         ids=["empty", "noise", "version-2", "cut-short"])
def test_a_file_that_cannot_be_understood_is_put_aside(lab, content):
    state = State(lab)
    state.file.write_bytes(content)
    published = Published(lab)
    client = published.client(lab, state)
    client.process.wait_log(r"warn.*ech-cache: .*; it was put aside as .*ech-cache\.bad")
    assert (state.folder / "ech-cache.bad").read_bytes() == content
    state.wait_list(published.server.config)


def test_a_state_that_cannot_be_written_is_done_without(lab):
    published = Published(lab)
    origin = lab.origin(echo)
    folder = lab.path("file")
    folder.write_text("not a folder")
    client = lab.client(published.relay.port, *doh(published.resolver.port), pin_address=False, state=folder / "state")
    use(client, origin)
    assert len(client.process.wait_log(r"warn.*is not kept for the next start: .*file")) == 1


def test_processes_share_a_state(lab):
    """Each keeps its own servers, and leaves the other's alone."""
    state = State(lab)
    published = [Published(lab) for _ in range(3)]
    clients = [each.client(lab, state, up=False) for each in published]
    for client in clients:
        client.process.wait_log(r"channel 1 up:", timeout=30)
    for each in published:
        state.wait_list(each.server.config)
    assert len(state.lists()) == 3


@pytest.mark.one_backend
def test_refreshes_without_a_dial(lab):
    """The TTL of 1 s is taken as 30 s: the new list is there within them, and in the file, while the channel stays up."""
    state = State(lab)
    server = lab.server()
    records = https_records(server.port, server.config).replace(" 60 IN", " 1 IN")
    named = start_named(lab, records)
    client = lab.client(server.port, *doh(named.doh_port), "-log-level", "debug", pin_address=False, state=state.folder)
    state.wait_list(server.config)
    named.stop()
    rotated = base64.b64encode(Key(PUBLIC).config_list).decode()
    start_named(lab, records.replace(server.config, rotated), port=named.doh_port)
    state.wait_list(rotated)
    assert client.process.counters()["server_lookups"] >= 2
    assert client.process.log().count("channel 1 up:") == 1
    assert "asked again in" in client.process.log()


@pytest.mark.one_backend
def test_one_lookup_for_all_cores(lab):
    published = Published(lab)
    client = published.client(lab, State(lab), "-threads", 2, channels=6)
    assert client.process.counters()["server_lookups"] == 1


@pytest.mark.sanitizers
@pytest.mark.one_backend
def test_cores_share_what_the_server_sent(lab, stale_config):
    """A rejection on one core spares the others theirs."""
    published = Published(lab, stale_config)
    client = published.client(lab, State(lab), "-threads", 2, channels=6)
    assert client.process.log().count("ECH rejected") <= 2, "one for each core that dialled before it was told"
    published.relay.cut()
    client.process.wait_log(r"channel \d+ up: .*ECH accepted", count=12, timeout=30)
    assert client.process.log().count("ECH rejected") <= 2


@pytest.mark.sanitizers
def test_ech_switched_off_at_the_server(lab):
    """A TLS server whose certificate covers the public name and which knows nothing of ECH (RFC 9849 section 6.1.6): no
    connection, no second try without ECH, and words for whoever is to mend it."""
    port = free_port()
    lab.start("s_server", "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", lab.pki.cert, "-key",
              lab.pki.key, "-tls1_3", "-quiet")
    wait_until(lambda: listens(port), what="openssl to listen")
    relay = lab.relay(port)
    client = lab.client(relay.port, config=base64.b64encode(Key(PUBLIC).config_list).decode(), up=False)
    client.process.wait_log(r"dial failed: the server says that it has no ECH any more; have its operator start it with its "
                            r"ECH keys, or accept an open name with -fallback: ", count=2, timeout=30)
    wait_until(lambda: relay.connections >= 2, what="a second attempt")
    for captured in list(relay.recorded):
        if captured:
            name, extensions = client_hello(bytes(captured))
            assert name == PUBLIC and ECH_EXTENSION in extensions
    assert HIDDEN.encode() not in relay.client_bytes()
    assert " up:" not in client.process.log()


@pytest.mark.sanitizers
def test_the_servers_own_record_is_followed(lab):
    """-ech auto: AliasMode away from the server's name, and a port that -f does not know."""
    server = lab.server()
    relay = lab.relay(server.port)
    named = start_named(lab, "\n".join([
        "secret 60 IN HTTPS 0 pool.test.",
        f'pool 60 IN HTTPS 1 edge.test. alpn="http/1.1" port={relay.port} ech="{server.config}"',
        "edge 60 IN A 127.0.0.1"]))
    client = lab.client(443, *doh(named.doh_port), pin_address=False)
    client.process.wait_log(rf"channel 1 up: 127\.0\.0\.1:{relay.port}, .*ECH accepted")
    assert relay.connections == 1


@pytest.mark.one_backend
def test_a_resolver_given_by_name_is_said(lab):
    server = lab.server()
    named = start_named(lab, https_records(server.port, server.config))
    client = lab.client(server.port, "-dns", f"https://localhost:{named.doh_port}/dns-query", "-ech", "auto",
                        pin_address=False)
    assert client.process.log().count("localhost is looked up in clear") == 1
    client = lab.client(server.port, "-dns", f"https://localhost:{named.doh_port}/dns-query", config=server.config)
    assert "looked up in clear" not in client.process.log(), "it is not asked"


@pytest.mark.one_backend
def test_the_hidden_name_is_no_resolver(lab):
    """It would be looked up in clear, and stand in the ClientHello to the resolver."""
    result = subprocess.run([lab.binary, "-l", "proxy://127.0.0.1:0", "-f", f"wss://{HIDDEN}/tunnel", "-dns",
                             f"https://{HIDDEN.upper()}/dns-query", "-ech", "auto"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=20, text=True, check=False)
    assert result.returncode != 0 and "the name that ECH hides" in result.stdout, result
