"""-serve-dns asked by the DoH clients of others, over HTTP/2 and HTTP/1.1, and by more questions than it answers."""

import base64
import http.client
import ssl
import subprocess

import pytest

import apps
from origins import echo
from pki import HIDDEN
from test_ech import dns_query


def run(*argv):
    result = subprocess.run([str(argument) for argument in argv], timeout=30, capture_output=True, check=False)
    return result.returncode, (result.stdout + result.stderr).decode("utf-8", "replace")


def curl(lab, server, *arguments):
    return run("curl", "-sS", "-m", "20", "--cacert", lab.pki.ca, "-o", "/dev/null", "-w",
               "%{http_code} %{http_version} %{content_type} %header{retry-after}", *arguments[:-1],
               f"https://127.0.0.1:{server.port}{arguments[-1]}")


@pytest.mark.sanitizers
def test_both_versions_of_http(lab):
    """The same answers by either, to DNS and to what is none; who offers no ALPN gets HTTP/1.1."""
    server = lab.server("-serve-dns")
    get = "/dns-query?dns=" + base64.urlsafe_b64encode(dns_query(HIDDEN, 65)).rstrip(b"=").decode()
    post = lab.path("query")
    post.write_bytes(dns_query(HIDDEN, 1))
    media = "Content-Type: application/dns-message"
    for flag, version in (("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")):
        for arguments, status, content_type in [
                ((get,), 200, "application/dns-message"),
                (("-H", media, "--data-binary", f"@{post}", "/dns-query"), 200, "application/dns-message"),
                (("-I", get), 200, "application/dns-message"),
                (("/dns-query?dns=!",), 400, ""),
                (("-X", "PUT", get), 405, ""),
                (("-H", "Content-Type: text/plain", "--data-binary", f"@{post}", "/dns-query"), 415, ""),
                (("/elsewhere",), 404, "text/plain; charset=utf-8")]:
            code, output = curl(lab, server, flag, *arguments)
            assert (code, output.split()) == (0, [str(status), version, *content_type.split()]), (flag, arguments, output)


@pytest.mark.sanitizers
def test_resolvers_of_others(lab):
    """curl, kdig and bind9's dig: names of its own are answered, others refused."""
    server = lab.server("-serve-dns")
    kdig = ["kdig", "-p", server.port, f"+tls-ca={lab.pki.ca}", "@127.0.0.1"]
    for mode in (["+https"], ["+https", "+https-get"]):
        for kind, expected in (("A", "127.0.0.1"), ("TYPE65", base64.b64decode(server.config).hex().upper())):
            code, output = run(*kdig, *mode, HIDDEN, kind)
            assert code == 0 and "NOERROR" in output, output
            assert expected in output.replace(" ", "") or server.config in output, output
        code, output = run(*kdig, *mode, "example.org", "A")
        assert "REFUSED" in output, output
    for mode in ("+https", "+https-get"):
        code, output = run("dig", mode, f"+tls-ca={lab.pki.ca}", "-p", server.port, "@127.0.0.1", HIDDEN, "HTTPS")
        assert code == 0 and server.config in output.replace(" ", ""), output
    for flag in ("--http2", "--http1.1"):
        code, output = run("curl", "-sS", "-m", "20", flag, "--cacert", lab.pki.ca, "--doh-insecure", "--doh-url",
                           f"https://127.0.0.1:{server.port}/dns-query", "-o", "/dev/null", "-w", "%{http_code}",
                           f"https://{HIDDEN}:{server.port}/elsewhere")
        assert (code, output) == (0, "404"), output


def test_a_flood_is_told_to_wait(lab):
    """More questions from one source than it may ask: 429 and when to come again; a tunnel beside it is as before."""
    origin = lab.origin(echo)
    server, client = lab.pair(server_extra=("-serve-dns",))
    context = ssl.create_default_context(cafile=str(lab.pki.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
    path = "/dns-query?dns=" + base64.urlsafe_b64encode(dns_query(HIDDEN, 1)).rstrip(b"=").decode()
    statuses = []
    while statuses.count(429) < 10 and len(statuses) < 5000:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        if answer.status == 429:
            assert int(answer.getheader("Retry-After")) >= 1
    connection.close()
    assert statuses.count(429) == 10 and statuses.index(429) >= 200, statuses.index(429)
    code, output = curl(lab, server, "--http2", path)
    assert code == 0 and output.split()[:2] in (["200", "2"], ["429", "2"]), output
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"
