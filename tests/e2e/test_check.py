"""`ech-tunnel check`: every way in which a tunnel can fail to come up is named by its step and its exit status."""

import json
import subprocess

import pytest

from conftest import TOKEN
from ech_bytes import Key
from peers import https_records, start_named
from pki import HIDDEN, PUBLIC
from procs import free_port
from waiting import SLOWNESS, wait_until

STEPS = ["doh", "record", "ech-config", "address", "tcp", "tls", "ech", "certificate", "upgrade", "protocol",
         "round-trip"]
STATUS = {name: 10 + place for place, name in enumerate(STEPS)}


class Check:
    """One run, and what it said."""

    def __init__(self, lab, port, *flags, path="/tunnel", token=TOKEN, host=HIDDEN):
        arguments = ["-f", f"wss://{host}:{port}{path}", "-ca", lab.pki.ca, *(["-token", token] if token else []), *flags]
        self.text = self._run(lab, arguments)
        self.status = self.result.returncode
        self.report = json.loads(self._run(lab, [*arguments, "-json"]))
        self.steps = {step["name"]: step for step in self.report["steps"]}
        assert self.result.returncode == self.status == self.report["exit_status"], self.text

    def _run(self, lab, arguments):
        backend = lab.backend.removesuffix("-legacy")
        self.result = subprocess.run([lab.binary, "check", *map(str, arguments), "-backend", backend], check=False,
                                     timeout=60 * SLOWNESS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert TOKEN not in self.result.stdout + self.result.stderr
        return self.result.stdout

    def fails_at(self, name, *words):
        assert self.status == STATUS[name], self.text
        assert f"\nfailed at {name}: " in self.text and not self.report["ok"]
        step = self.steps[name]
        assert step["outcome"] == "failed"
        for word in words:
            assert word in self.text, self.text
        return step


def given(server):
    """Flags that make DoH unnecessary."""
    return ["-ip", "127.0.0.1", "-ech-config", server.config]


def doh(port):
    return ["-dns", f"https://127.0.0.1:{port}/dns-query", "-ech", "auto"]


@pytest.mark.sanitizers
def test_all_is_well(lab):
    server = lab.server()
    named = start_named(lab, https_records(server.port, server.config))
    check = Check(lab, server.port, *doh(named.doh_port))
    assert check.status == 0 and check.report["ok"] and check.text.endswith("all is well\n"), check.text
    assert list(check.steps) == STEPS
    assert all(step["outcome"] == "ok" and step["milliseconds"] >= 0 for step in check.steps.values())
    assert f"public name {PUBLIC}" in str(check.steps["ech-config"]["details"])
    assert any(says.startswith("_") and server.config in says for what, says in check.steps["record"]["details"])
    assert HIDDEN in dict(check.steps["certificate"]["details"])["names"]
    assert dict(check.steps["certificate"]["details"])["pin"].startswith("sha256/")
    assert check.steps["ech"]["summary"] == "accepted" and "TLSv1.3" in check.steps["tls"]["summary"]
    wait_until(lambda: server.process.counters()["channels_up"] == 0, what="the checks' channels to be gone")


def test_given_by_hand(lab):
    server = lab.server()
    check = Check(lab, server.port, *given(server))
    assert check.status == 0, check.text
    assert check.steps["doh"]["outcome"] == check.steps["record"]["outcome"] == "skipped"


@pytest.mark.one_backend
def test_a_configuration_file_with_listeners(lab):
    """What runs the client is what checks it."""
    server = lab.server()
    config = lab.path("client.toml")
    config.write_text(f'l = "proxy://127.0.0.1:1"\nn = 3\nip = "127.0.0.1"\nech-config = "{server.config}"\n')
    check = Check(lab, server.port, "-config", config)
    assert check.status == 0, check.text


def test_wrong_resolver(lab):
    """One where nobody listens, one that is no DoH server; and one that answers is enough."""
    server = lab.server()
    nobody = free_port()
    check = Check(lab, server.port, *doh(nobody))
    check.fails_at("doh", f"https://127.0.0.1:{nobody}/dns-query", "refused")
    check = Check(lab, server.port, *doh(server.port))
    check.fails_at("doh", "404")
    named = start_named(lab, https_records(server.port, server.config))
    check = Check(lab, server.port, "-dns",
                  f"https://127.0.0.1:{nobody}/dns-query,https://127.0.0.1:{named.doh_port}/dns-query", "-ech", "auto")
    assert check.status == 0 and "1 of 2 resolvers answer" in check.text, check.text


def test_a_resolver_that_refuses(lab):
    """It is not its zone."""
    named = start_named(lab, "")
    check = Check(lab, 443, *doh(named.doh_port), host="tunnel.elsewhere")
    check.fails_at("doh", "REFUSED")


@pytest.mark.parametrize("zone, words", [
    ("", "has no HTTPS record"),
    ('secret 60 IN HTTPS 1 . alpn="http/1.1"', "has no ech="),
], ids=["none", "without-ech"])
def test_no_record(lab, zone, words):
    named = start_named(lab, f"secret 60 IN A 127.0.0.1\n{zone}")
    check = Check(lab, free_port(), *doh(named.doh_port))
    check.fails_at("record", words)


def test_unusable_list(lab):
    named = start_named(lab, https_records(443, "AAj+CgAEAAAAAA=="))  # of a version nobody knows
    check = Check(lab, 443, *doh(named.doh_port))
    check.fails_at("ech-config", "0xfe0a")


def test_no_address(lab):
    server = lab.server()
    named = start_named(lab, f'front 60 IN HTTPS 1 . alpn="h2" ech="{server.config}"')
    check = Check(lab, server.port, "-dns", f"https://127.0.0.1:{named.doh_port}/dns-query", "-ech", "front.test")
    check.fails_at("address", HIDDEN)


def test_server_is_down(lab, stale_config):
    check = Check(lab, free_port(), "-ip", "127.0.0.1", "-ech-config", stale_config)
    check.fails_at("tcp", "refused")


def test_no_tls_there(lab, stale_config, http_origin):
    check = Check(lab, http_origin.port, "-ip", "127.0.0.1", "-ech-config", stale_config)
    check.fails_at("tls", "not TLS")


@pytest.mark.sanitizers
def test_stale_key(lab, stale_config):
    """What is published is not the server's key: said, although the retry configs get clients in."""
    server = lab.server()
    named = start_named(lab, https_records(server.port, stale_config))
    check = Check(lab, server.port, *doh(named.doh_port))
    step = check.fails_at("ech", "the list of the DNS is stale")
    assert dict(step["details"])["outer name"] == PUBLIC and "retry config" in dict(step["details"])
    assert list(check.steps) == STEPS, "the rest was looked at, too"
    assert check.steps["round-trip"]["outcome"] == "ok"


def test_wrong_certificate(lab):
    other = lab.pki.issue("elsewhere", ["elsewhere.test", PUBLIC])
    server = lab.server(cert=other)
    check = Check(lab, server.port, *given(server))
    step = check.fails_at("certificate", "elsewhere.test")
    assert check.steps["ech"]["summary"] == "accepted"
    assert "elsewhere.test" in dict(step["details"])["names"]


def test_wrong_token(lab):
    server = lab.server()
    check = Check(lab, server.port, *given(server), token="not-the-token")
    check.fails_at("upgrade", "401", "-token")
    assert "not-the-token" not in check.text


def test_wrong_path(lab):
    server = lab.server()
    check = Check(lab, server.port, *given(server), path="/elsewhere")
    check.fails_at("upgrade", "404", "path")


def test_address_not_admitted(lab):
    server = lab.server("-cidr", "192.0.2.0/24")
    check = Check(lab, server.port, *given(server))
    check.fails_at("upgrade", "403", "-cidr")


@pytest.mark.protocol("native")
def test_legacy_server(lab):
    server = lab.server("-proto", "legacy")
    check = Check(lab, server.port, *given(server))
    assert check.status == 0 and "does not speak mux/2" in check.steps["protocol"]["summary"], check.text
    check = Check(lab, server.port, *given(server), "-proto", "native")
    check.fails_at("protocol", "legacy")


@pytest.mark.one_backend
def test_bad_command_lines(lab):
    def complaint(*arguments):
        result = subprocess.run([lab.binary, "check", *arguments], check=False, timeout=60, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        assert result.returncode == 2 and not result.stdout
        return result.stderr

    assert "-f is missing" in complaint()
    assert "wss" in complaint("-f", "http://x/")
    assert "-cert" in complaint("-f", "wss://x/", "-cert", "c.pem")
    assert "client" in complaint("-l", "wss://127.0.0.1:1/")
    help_text = subprocess.run([lab.binary, "check", "-h"], check=True, timeout=60, stdout=subprocess.PIPE,
                               text=True).stdout
    for name, status in STATUS.items():
        assert f"{status} {name}" in help_text
