"""Headless browsers, each with a home of its own that trusts the tests' CA and asks one DoH server, ended by their
process group. Each recipe was tried by hand first."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest

from origins import Origin
from peers import trust
from procs import free_port
from waiting import wait_until

LIMIT_SECONDS = 200  # of a browser's whole life, whatever its test does
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def need(program):
    if shutil.which(program) is None:
        pytest.fail(f"{program} is not installed: run tools/setup")


class Browser:
    """A running browser; for lab.keep(). What it prints is kept, what it complains about is dropped."""

    def __init__(self, argv, home):
        home.mkdir(exist_ok=True)
        self.output_path = home / "output"
        # Nothing of the user's session: no display, no bus, no proxy.
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(home),
                       "MOZ_HEADLESS": "1"}
        with open(self.output_path, "wb") as output:
            self.child = subprocess.Popen(["timeout", str(LIMIT_SECONDS), *map(str, argv)], stdin=subprocess.DEVNULL,
                                          stdout=output, stderr=subprocess.DEVNULL, env=environment, cwd=home,
                                          start_new_session=True)

    def output(self):
        return self.output_path.read_text(encoding="utf-8", errors="replace")

    def running(self):
        return self.child.poll() is None

    def stop(self):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()


class Chromium:
    """Prints the DOM of one page and ends. Asks the DoH server for HTTPS records, and uses ECH wherever they say so."""

    def __init__(self, lab, doh_port, url):
        need("chromium")
        home = lab.path("chromium")
        database, profile = home / ".pki" / "nssdb", home / "profile"
        database.mkdir(parents=True)
        profile.mkdir()
        trust(lab, f"sql:{database}")
        (profile / "Local State").write_text(json.dumps({"dns_over_https": {
            "mode": "secure", "templates": f"https://localhost:{doh_port}/dns-query"}}))
        self._browser = lab.keep(Browser([*CHROMIUM, f"--user-data-dir={profile}", "--timeout=120000", "--dump-dom",
                                          url], home))

    def text(self):
        """What the page says in the end."""
        wait_until(lambda: not self._browser.running(), timeout=150, what="chromium to end")
        return self._browser.output()


class Firefox:
    """Goes to one page and stays. The first page is opened by Marionette, its remote protocol, which reads it too."""

    PREFERENCES = {
        "network.trr.mode": 3, "network.trr.bootstrapAddr": "127.0.0.1", "network.trr.allow-rfc1918": True,
        "network.trr.confirmationNS": "skip", "network.trr.request_timeout_ms": 30000,
        "network.trr.request_timeout_mode_trronly_ms": 30000, "network.dns.echconfig.enabled": True,
        "network.dns.use_https_rr_as_altsvc": True, "network.http.http3.enable": False,
        # Nothing of its own accord.
        "app.update.enabled": False, "browser.safebrowsing.malware.enabled": False,
        "browser.safebrowsing.phishing.enabled": False, "datareporting.policy.dataSubmissionEnabled": False,
        "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
        "toolkit.telemetry.enabled": False, "browser.shell.checkDefaultBrowser": False,
    }

    def __init__(self, lab, doh_port, url):
        need("firefox-esr")
        home, port = lab.path("firefox"), free_port()
        profile = home / "profile"
        profile.mkdir(parents=True)
        trust(lab, f"sql:{profile}")
        resolver = f"https://localhost:{doh_port}/dns-query"
        preferences = {**self.PREFERENCES, "network.trr.uri": resolver, "network.trr.custom_uri": resolver,
                       "marionette.port": port}
        (profile / "user.js").write_text("".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()))
        self._browser = lab.keep(Browser(["firefox-esr", "--headless", "--marionette", "--no-remote", "--profile",
                                          profile], home))
        self._marionette = wait_until(lambda: self._connect(port), timeout=90, what="Marionette to listen")
        self._read()  # its greeting
        self._number = 0
        self._ask("WebDriver:NewSession", {"pageLoadStrategy": "normal", "timeouts": {"pageLoad": 120000}})
        self._ask("WebDriver:Navigate", {"url": url})

    def _connect(self, port):
        assert self._browser.running(), "firefox has ended"
        try:
            return socket.create_connection(("127.0.0.1", port), 150)
        except OSError:
            return None

    def _read(self):
        """One message: its length in decimal, a colon, JSON."""
        length = b""
        while (byte := self._marionette.recv(1)) != b":":
            assert byte, "Marionette hung up"
            length += byte
        text = b""
        while len(text) < int(length):
            part = self._marionette.recv(int(length) - len(text))
            assert part, "Marionette hung up"
            text += part
        return json.loads(text)

    def _ask(self, command, parameters):
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._marionette.sendall(str(len(message)).encode() + b":" + message)
        _, number, error, value = self._read()
        assert number == self._number and error is None, (command, error)
        return value

    def text(self):
        """What the page says now."""
        return self._ask("WebDriver:GetPageSource", {})["value"]


class WebSocketPage(Origin):
    """GET / is a page that opens a WebSocket and tells this origin how that went: `outcome`, "open" or "closed". An
    image of it takes until then, so that no browser is done with the page before."""

    def __init__(self, url, protocol):
        self.outcome = None
        self._told = asyncio.Event()
        self._page = f"""<!doctype html><title>page</title><img src=/hold><script>
            const socket = new WebSocket({json.dumps(url)}, {json.dumps(protocol)});
            socket.onopen = () => fetch('/open');
            socket.onclose = () => fetch('/closed');
            </script>""".encode()
        super().__init__(self._answer)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    async def _answer(self, reader, writer):
        while line := await reader.readline():
            path = line.split()[1].decode()
            while (await reader.readline()).strip():
                pass
            if path in ("/open", "/closed"):
                self.outcome = self.outcome or path[1:]
                self._told.set()
            elif path == "/hold":
                await self._told.wait()
            body = self._page if path == "/" else b""
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()

    def wait(self):
        return wait_until(lambda: self.outcome, timeout=150, what="the page to say how its WebSocket went")
