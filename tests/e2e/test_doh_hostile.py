"""Resolvers that mean harm cost a client bounded memory and their timeout, are named in its log, and hide no good one."""

import pytest

from hostile_doh import SCRIPTS, HostileResolver
from peers import https_records, start_named
from pki import PUBLIC
from procs import free_port
from waiting import wait_until

pytestmark = pytest.mark.protocol("native")  # nothing gets as far as to speak either

# What a client may need over one whose resolver does not exist: a connection, its buffers, an answer.
GROWTH_KIB = 24 * 1024


def peak_kib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def url(port):
    return f"https://127.0.0.1:{port}/dns-query"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_it_costs_little_and_is_named(lab, script):
    hostile = lab.keep(HostileResolver(script, lab.pki))
    client = lab.client(443, "-dns", url(hostile.port), "-ech", "auto", pin_address=False, up=False)
    client.process.wait_log(rf"dial failed: .*DoH resolver 127\.0\.0\.1:{hostile.port}: ", timeout=60)
    wait_until(lambda: hostile.asked >= 1, what="the question")
    control = lab.client(443, "-dns", url(free_port()), "-ech", "auto", pin_address=False, up=False)
    control.process.wait_log(r"dial failed: ")
    assert peak_kib(client.process) < peak_kib(control.process) + GROWTH_KIB
    assert client.process.running() and " up:" not in client.process.log()


@pytest.mark.one_backend
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script.name in
                                    ("no-tls", "silence", "drip", "h2-settings", "wrong-type")],
                         ids=lambda script: script.name)
def test_a_good_one_stands_in(lab, script):
    server = lab.server()
    named = start_named(lab, https_records(server.port, server.config))
    hostile = lab.keep(HostileResolver(script, lab.pki))
    client = lab.client(server.port, "-dns", f"{url(hostile.port)},{url(named.doh_port)}", "-ech", "auto",
                        pin_address=False)
    client.process.wait_log(rf"channel 1 up: .*ECH accepted, outer name {PUBLIC}")
