"""What an observer between client and server gets to see, and what happens when the server refuses ECH."""

import base64
import http.client
import re
import ssl
import struct
import subprocess

import pytest

import apps
from ech_bytes import ECH_EXTENSION, Key, client_hello, read_pem_folder
from origins import echo
from peers import nss_database, start_selfserv, tstclnt
from pki import HIDDEN, PUBLIC, Pki
from procs import free_port
from waiting import wait_until


def use(client, origin):
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"payload-on-the-wire")
        assert apps.receive_exactly(sock, 19) == b"payload-on-the-wire"


@pytest.mark.sanitizers
def test_observer_sees_the_outer_name_only(lab):
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config, channels=2)
    use(client, origin)
    client.process.wait_log(rf"channel \d+ up: .*TLSv1\.3, ECH accepted, outer name {PUBLIC}", count=2)
    assert relay.connections == 2
    for captured in relay.recorded:
        name, extensions = client_hello(bytes(captured))
        assert name == PUBLIC and ECH_EXTENSION in extensions
    everything = relay.client_bytes()
    assert PUBLIC.encode() in everything
    for hidden in (HIDDEN.encode(), b"/tunnel", b"payload-on-the-wire", b"correct-horse-battery"):
        assert hidden not in everything


def test_observer_sees_the_name_with_fallback(lab):
    """The control of the test above: with -fallback the name is there to be seen, and the log says so."""
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, "-fallback")
    use(client, origin)
    name, _ = client_hello(bytes(relay.recorded[0]))
    assert name == HIDDEN
    assert HIDDEN.encode() in relay.client_bytes()
    assert "ECH accepted" not in client.process.log()


def test_server_says_what_clients_use(lab):
    """A line per channel at the server, too."""
    server, _ = lab.pair()
    server.process.wait_log(r"channel \d+ up: .*ECH accepted")


@pytest.mark.sanitizers
def test_learned_from_the_server_itself(lab):
    """-serve-dns: the client gets the ECHConfigList by DoH from the server, and no name crosses the wire in clear."""
    origin = lab.origin(echo)
    server = lab.server("-serve-dns")
    relay = lab.relay(server.port)
    client = lab.client(server.port, "-dns", f"https://127.0.0.1:{relay.port}/dns-query", "-ech", "auto",
                        pin_address=False)
    use(client, origin)
    client.process.wait_log(r"channel 1 up: .*ECH accepted")
    assert relay.connections >= 1
    assert HIDDEN.encode() not in relay.client_bytes()


@pytest.mark.sanitizers
def test_rejected_with_retry_configs(lab, stale_config):
    """The server's authenticated retry configs are used once, on a second connection."""
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=stale_config)
    use(client, origin)
    client.process.wait_log(r"channel 1 up: .*ECH accepted")
    assert relay.connections == 2
    assert HIDDEN.encode() not in relay.client_bytes()


def test_retry_configs_are_not_used_unless_authenticated(lab, stale_config):
    """The certificate does not cover the public name: nothing the server says counts."""
    certificate = lab.pki.issue("hidden-only", [HIDDEN])
    server = lab.server(cert=certificate)
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=stale_config, up=False)
    wait_until(lambda: relay.connections >= 2, timeout=30, what="a second attempt, after a back-off")
    assert " up:" not in client.process.log()
    assert HIDDEN.encode() not in relay.client_bytes()


def test_server_certificate_is_checked(lab):
    """A certificate for another name, and one nobody trusts: no channel."""
    other = lab.pki.issue("other-name", ["other.test", PUBLIC])
    server = lab.server(cert=other)
    client = lab.client(server.port, config=server.config, up=False)
    client.process.wait_log(r"(?i)certificate|verif", timeout=20)
    assert " up:" not in client.process.log()

    folder = lab.path("stranger")
    folder.mkdir()
    stranger = Pki(folder)
    server = lab.server(cert=(stranger.cert, stranger.key))
    client = lab.client(server.port, config=server.config, up=False)
    client.process.wait_log(r"(?i)certificate|verif", timeout=20)
    assert " up:" not in client.process.log()


def test_older_keys_are_accepted(lab):
    """The newest key is published, every one in the folder is accepted."""
    keys = lab.keygen()
    first = lab.server(keys=keys)
    config = first.config
    first.process.stop()
    subprocess.run([lab.binary, "ech-keygen", "-public-name", PUBLIC, "-out", keys], check=True, timeout=30,
                   stdout=subprocess.DEVNULL)
    server = lab.server(keys=keys)
    assert server.config != config
    relay = lab.relay(server.port)
    for known in (config, server.config):
        client = lab.client(relay.port, config=known)
        client.process.wait_log(r"channel 1 up: .*ECH accepted")
    assert relay.connections == 2, "neither was rejected"


@pytest.mark.one_backend
def test_keys_are_made_and_kept(lab):
    """Without -cert and -ech-keys both are made once, private, in -state, and the next start uses them."""
    state = lab.path("state")
    state.mkdir()
    port = free_port()
    arguments = ["-l", f"wss://127.0.0.1:{port}/tunnel", "-name", HIDDEN, "-ech-public-name", PUBLIC, "-state", state]

    def snapshot():
        return {path.relative_to(state): path.read_bytes() for path in state.rglob("*") if path.is_file()}

    first = lab.run("first", *arguments)
    first.wait_log(r"listening on wss://")
    made = snapshot()
    assert any(b"BEGIN CERTIFICATE" in text for text in made.values())
    assert any(b"BEGIN ECHCONFIG" in text for text in made.values())
    for name, text in made.items():
        if b"PRIVATE KEY" in text:
            assert (state / name).stat().st_mode & 0o777 == 0o600, name
    assert first.stop() == 0
    second = lab.run("second", *arguments)
    second.wait_log(r"listening on wss://")
    assert snapshot() == made


@pytest.mark.one_backend
def test_keygen(lab):
    """Prints the ECHConfigList and the record to publish; the file is RFC 9934's and private."""
    folder = lab.path("keys")
    output = subprocess.run([lab.binary, "ech-keygen", "-public-name", PUBLIC, "-out", folder], check=True, timeout=30,
                            stdout=subprocess.PIPE, text=True).stdout
    config = read_pem_folder(folder)
    assert config in output and "HTTPS" in output
    raw = base64.b64decode(config)
    assert struct.unpack(">H", raw[:2])[0] == len(raw) - 2 and raw[2:4] == b"\xfe\x0d" and PUBLIC.encode() in raw
    files = list(folder.iterdir())
    assert len(files) == 1 and files[0].stat().st_mode & 0o777 == 0o600
    text = files[0].read_text()
    assert text.index("-----BEGIN PRIVATE KEY-----") < text.index("-----BEGIN ECHCONFIG-----")


def dns_query(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", 0, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


@pytest.mark.sanitizers
def test_serve_dns(lab):
    """RFC 8484 by GET and by POST: HTTPS with the current ECHConfigList, A with the address the query arrived on."""
    server = lab.server("-serve-dns")
    context = ssl.create_default_context(cafile=str(lab.pki.ca))

    def ask(name, kind, method):
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
        query = dns_query(name, kind)
        if method == "GET":
            encoded = base64.urlsafe_b64encode(query).rstrip(b"=").decode()
            connection.request("GET", f"/dns-query?dns={encoded}", headers={"Accept": "application/dns-message"})
        else:
            connection.request("POST", "/dns-query", query, {"Content-Type": "application/dns-message",
                                                             "Accept": "application/dns-message"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200
        assert answer.getheader("Content-Type") == "application/dns-message"
        return body

    for method in ("GET", "POST"):
        https = ask(HIDDEN, 65, method)
        assert https[3] & 0x0f == 0 and base64.b64decode(server.config) in https
        address = ask(HIDDEN, 1, method)
        assert struct.unpack(">H", address[6:8])[0] == 1 and address.endswith(b"\x00\x04\x7f\x00\x00\x01")
        other = ask("other.test", 1, method)
        assert other[3] & 0x0f != 0 or struct.unpack(">H", other[6:8])[0] == 0

    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
    connection.request("GET", "/dns-query?dns=!!!")
    assert connection.getresponse().status == 400
    connection.close()


def test_without_serve_dns_there_is_none(lab):
    server = lab.server()
    context = ssl.create_default_context(cafile=str(lab.pki.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
    encoded = base64.urlsafe_b64encode(dns_query(HIDDEN, 65)).rstrip(b"=").decode()
    connection.request("GET", f"/dns-query?dns={encoded}")
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.sanitizers
def test_nss_client_reaches_our_server(lab, stale_config):
    """Under the server's key at once; under an old one by the retry configs that NSS prints. The server counts both."""
    server = lab.server()
    database = nss_database(lab, with_server_key=False)
    request = f"GET / HTTP/1.1\r\nHost: {HIDDEN}\r\nConnection: close\r\n\r\n".encode()
    status, output = tstclnt(database, server.port, server.config, request)
    assert status == 0 and "404 Not Found" in output, output
    status, output = tstclnt(database, server.port, stale_config, request)
    assert status != 0 and "ECH_RETRY_WITH_ECH" in output and "404" not in output, output
    retry_configs = re.search(r"Received ECH retry_configs:\s+(\S+)", output).group(1)
    assert retry_configs == server.config
    counters = server.process.counters()
    assert (counters["ech_accepted"], counters["ech_rejected"], counters["ech_absent"]) == (1, 1, 0)
    status, output = tstclnt(database, server.port, retry_configs, request)
    assert status == 0 and "404 Not Found" in output, output
    assert server.process.counters()["ech_accepted"] == 2


def test_server_counts_grease_and_its_absence(lab):
    """GREASE is an offer that no key fits; a handshake without the extension is neither."""
    server = lab.server()
    status, output = tstclnt(nss_database(lab, with_server_key=False), server.port)
    assert status == 0, output
    context = ssl.create_default_context(cafile=str(lab.pki.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
    connection.request("GET", "/")
    assert connection.getresponse().status == 404
    connection.close()
    counters = server.process.counters()
    assert (counters["ech_accepted"], counters["ech_rejected"], counters["ech_absent"]) == (0, 1, 1)


@pytest.mark.sanitizers
def test_our_client_reaches_nss_server(lab):
    """selfserv speaks no WebSocket: the handshake with ECH succeeds, the upgrade then does not."""
    key = Key(PUBLIC)
    port = start_selfserv(lab, key)
    relay = lab.relay(port)
    client = lab.client(relay.port, "-log-level", "debug", config=key.base64(), up=False)
    client.process.wait_log(r"tls: ECH accepted", timeout=20)
    name, extensions = client_hello(bytes(relay.recorded[0]))
    assert name == PUBLIC and ECH_EXTENSION in extensions
    assert HIDDEN.encode() not in relay.client_bytes()
    assert " up:" not in client.process.log()


def test_nss_server_rejects_and_the_retry_is_accepted(lab, stale_config):
    """NSS's retry configs are understood, and used on a second connection."""
    key = Key(PUBLIC, config_id=9)
    port = start_selfserv(lab, key)
    relay = lab.relay(port)
    client = lab.client(relay.port, "-log-level", "debug", config=stale_config, up=False)
    client.process.wait_log(r"tls: ECH accepted", timeout=20)
    assert client.process.counters()["ech_rejected"] == 1
    for captured in relay.recorded[:2]:
        name, extensions = client_hello(bytes(captured))
        assert name == PUBLIC and ECH_EXTENSION in extensions
    assert relay.connections >= 2 and HIDDEN.encode() not in relay.client_bytes()
