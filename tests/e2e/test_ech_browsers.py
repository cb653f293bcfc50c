"""Chromium and Firefox against our server, with ECH by what bind9 tells them over DoH: pages and WebSockets, first with
the server's key, then with one that it does not have any more and gives another for."""

import pytest

from browsers import Chromium, Firefox, WebSocketPage
from conftest import TOKEN
from peers import https_records, start_named
from pki import HIDDEN

pytestmark = [pytest.mark.one_backend, pytest.mark.protocol("native"), pytest.mark.timeout(400)]

PAGE = "404 Not Found"  # the page that anybody sees


def start(lab, config=None):
    """A server whose log says what each handshake was, and a DoH server that publishes `config`, or the server's."""
    server = lab.server("-log-level", "debug")
    return server, start_named(lab, https_records(server.port, config or server.config))


@pytest.fixture(params=["current", "stale"])
def published(request, lab, stale_config):
    """Server, DoH server, and what the server must have counted of handshakes that offered ECH under another key."""
    server, named = start(lab, stale_config if request.param == "stale" else None)
    return server, named, request.param == "stale"


def expect_only_ech(server, stale):
    """Nobody came without ECH; under a stale key somebody was rejected first."""
    counters = server.process.counters()
    assert counters["ech_accepted"] >= 1 and counters["ech_absent"] == 0, counters
    if stale:
        assert counters["ech_rejected"] >= 1, counters
        log = server.process.log()
        assert log.index("tls: ECH of no key of ours") < log.index("tls: ECH accepted")
    else:
        assert counters["ech_rejected"] == 0, counters


def test_chromium_page(lab, published):
    server, named, stale = published
    browser = Chromium(lab, named.doh_port, f"https://{HIDDEN}:{server.port}/")
    assert PAGE in browser.text()
    expect_only_ech(server, stale)


def test_chromium_web_socket(lab, published):
    server, named, stale = published
    page = lab.keep(WebSocketPage(f"wss://{HIDDEN}:{server.port}/tunnel", TOKEN))
    Chromium(lab, named.doh_port, page.url)
    assert page.wait() == "open"
    server.process.wait_log(r"channel 1 up: .*ECH accepted, legacy")
    expect_only_ech(server, stale)


def test_firefox_page(lab, published):
    server, named, stale = published
    browser = Firefox(lab, named.doh_port, f"https://{HIDDEN}:{server.port}/")
    assert PAGE in browser.text()
    expect_only_ech(server, stale)


def test_firefox_web_socket(lab):
    """Firefox does no ECH on WebSockets, whatever DNS says: what it offers is GREASE, and the name is there to be seen
    (-require-ech keeps it out)."""
    server, named = start(lab)
    page = lab.keep(WebSocketPage(f"wss://{HIDDEN}:{server.port}/tunnel", TOKEN))
    Firefox(lab, named.doh_port, page.url)
    assert page.wait() == "open"
    server.process.wait_log(r"channel 1 up: .*without ECH, legacy")
    counters = server.process.counters()
    assert counters["ech_accepted"] == counters["ech_absent"] == 0 and counters["ech_rejected"] >= 1, counters
