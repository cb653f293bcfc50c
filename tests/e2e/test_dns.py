"""ECHConfigLists from bind9 over DoH (HTTP/2), and what happens when there is none to be had: never a connection
without ECH."""

import base64
import re
import subprocess

import pytest

import apps
from ech_bytes import Key
from origins import echo
from peers import https_records, start_dnsdist, start_named, start_unbound
from pki import HIDDEN, PUBLIC, Pki
from procs import free_port
from waiting import wait_until


def use(client, origin):
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"


def doh(port):
    return ["-dns", f"https://127.0.0.1:{port}/dns-query", "-ech", "auto"]


@pytest.mark.sanitizers
def test_bind9_over_http2(lab):
    """The record's ECHConfigList and the server's address both come from bind9."""
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    named = start_named(lab, https_records(relay.port, server.config))
    client = lab.client(relay.port, *doh(named.doh_port), pin_address=False)
    use(client, origin)
    client.process.wait_log(rf"channel 1 up: .*ECH accepted, outer name {PUBLIC}")
    assert HIDDEN.encode() not in relay.client_bytes()


@pytest.mark.parametrize("start", [start_dnsdist, start_unbound])
def test_other_resolvers(lab, start):
    """As bind9: record and address come from the one resolver there is."""
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    resolver = start(lab, https_records(relay.port, server.config))
    client = lab.client(relay.port, *doh(resolver.doh_port), pin_address=False)
    use(client, origin)
    client.process.wait_log(rf"channel 1 up: .*ECH accepted, outer name {PUBLIC}")
    assert HIDDEN.encode() not in relay.client_bytes()


def test_record_of_another_name(lab):
    """-ech NAME: the ECHConfigList of a shared front, as for a server behind a CDN."""
    server = lab.server()
    named = start_named(lab, f'front 60 IN HTTPS 1 . alpn="h2" ech="{server.config}"\nsecret 60 IN A 127.0.0.1')
    client = lab.client(server.port, "-dns", f"https://127.0.0.1:{named.doh_port}/dns-query", "-ech", "front.test",
                        pin_address=False)
    client.process.wait_log(r"channel 1 up: .*ECH accepted")


def labelled(output, label):
    return re.search(rf"^{label}: (.*)$", output, re.M).group(1)


@pytest.mark.one_backend
def test_what_keygen_prints_for_bind(lab):
    """The line for a zone file, and the command for nsupdate: each publishes a key that clients come in with."""
    for how in ("DNS record", "BIND nsupdate"):
        keys = lab.path("keys")
        output = subprocess.run([lab.binary, "ech-keygen", "-public-name", PUBLIC, "-out", keys, "-name", HIDDEN],
                                check=True, timeout=30, stdout=subprocess.PIPE, text=True).stdout
        server = lab.server(keys=keys)
        zone = f"{HIDDEN}. 60 IN A 127.0.0.1\n"
        if how == "DNS record":
            named = start_named(lab, zone + labelled(output, how))
        else:
            named = start_named(lab, zone, updates=True)
            subprocess.run(["nsupdate"], check=True, timeout=60, text=True,
                           input=f"server 127.0.0.1 {named.dns_port}\n{labelled(output, how)}\nsend\n")
        relay = lab.relay(server.port)
        client = lab.client(relay.port, *doh(named.doh_port), pin_address=False)
        client.process.wait_log(r"channel 1 up: .*ECH accepted")
        assert relay.connections == 1, "nothing was rejected"


def test_alias_is_followed(lab):
    """RFC 9460 section 2.4.2: AliasMode."""
    server = lab.server()
    named = start_named(lab, "\n".join([
        "front 60 IN HTTPS 0 pool.test.", f'pool 60 IN HTTPS 1 . alpn="h2" ech="{server.config}"',
        "pool 60 IN A 127.0.0.1", "secret 60 IN A 127.0.0.1"]))
    client = lab.client(server.port, "-dns", f"https://127.0.0.1:{named.doh_port}/dns-query", "-ech", "front.test",
                        pin_address=False)
    client.process.wait_log(r"channel 1 up: .*ECH accepted")


def test_stale_record(lab):
    """What DNS says is older than the server's key: the retry configs mend it."""
    origin = lab.origin(echo)
    server = lab.server()
    named = start_named(lab, https_records(server.port, Key(PUBLIC).base64()))
    client = lab.client(server.port, *doh(named.doh_port), pin_address=False)
    use(client, origin)
    client.process.wait_log(r"channel 1 up: .*ECH accepted")


def test_second_resolver_stands_in(lab):
    server = lab.server()
    named = start_named(lab, https_records(server.port, server.config))
    dead = free_port()
    client = lab.client(server.port, "-dns", f"https://127.0.0.1:{dead}/dns-query,"
                        f"https://127.0.0.1:{named.doh_port}/dns-query", "-ech", "auto", pin_address=False)
    client.process.wait_log(r"channel 1 up: .*ECH accepted")


@pytest.mark.sanitizers
def test_resolver_unreachable(lab):
    """Said with the resolver, retried with back-off, no connection meanwhile; a channel once it is there."""
    server = lab.server()
    relay = lab.relay(server.port)
    resolver = free_port()
    client = lab.client(relay.port, *doh(resolver), up=False)
    started = client.process.log().index("listening on")
    wait_until(lambda: client.process.log()[started:].count(f"127.0.0.1:{resolver}") >= 2, timeout=30,
               what="two attempts that name the resolver")
    assert relay.connections == 0
    start_named(lab, https_records(relay.port, server.config), port=resolver)
    client.process.wait_log(r"channel 1 up: .*ECH accepted", timeout=60)


@pytest.mark.parametrize("name, ech", [
    ("no ech in the record", None),
    ("cut short", base64.b64encode(Key(PUBLIC).config_list[:-4]).decode()),
    ("of a version nobody knows", base64.b64encode(bytes.fromhex("0008fe0a000400000000")).decode()),
    ("empty list", "AAA="),
], ids=["no-ech", "cut-short", "unknown-version", "empty-list"])
def test_no_usable_record(lab, name, ech):
    server = lab.server()
    relay = lab.relay(server.port)
    named = start_named(lab, https_records(relay.port, ech))
    client = lab.client(relay.port, *doh(named.doh_port), up=False)
    client.process.wait_log(r"(?i)\bech", count=3, timeout=30)  # the configuration, and two attempts that say why
    wait_until(lambda: client.process.log().count(f"127.0.0.1:{named.doh_port}") >= 2, what="the resolver to be named")
    assert relay.connections == 0
    assert " up:" not in client.process.log()


def test_name_without_a_record(lab):
    server = lab.server()
    relay = lab.relay(server.port)
    named = start_named(lab, "elsewhere 60 IN A 127.0.0.1")
    client = lab.client(relay.port, *doh(named.doh_port), up=False)
    wait_until(lambda: client.process.log().count(f"127.0.0.1:{named.doh_port}") >= 3, timeout=30,
               what="two attempts that name the resolver")
    assert relay.connections == 0


def test_resolver_nobody_trusts(lab):
    """A DoH server whose certificate does not verify is as good as none."""
    folder = lab.path("stranger")
    folder.mkdir()
    server = lab.server("-serve-dns")
    relay = lab.relay(server.port)
    client = lab.client(relay.port, *doh(server.port), ca=Pki(folder).ca, up=False)
    client.process.wait_log(r"(?i)certificate|verif", timeout=20)
    assert relay.connections == 0
