"""mux/2 under the death of its channels: downloads and uploads do not notice."""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time

import pytest

import apps
from capture import network_namespace
from origins import Http, echo
from procs import free_port
from test_transfer import sha256
from waiting import SLOWNESS, wait_until

pytestmark = pytest.mark.protocol("native")
MEGABYTES = 500
ADDRESSES = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]


@pytest.fixture(scope="module", autouse=True)
def network():
    """One of this module's own, with nothing but loopback, so that it may have a firewall."""
    with network_namespace():
        nft("add table inet chaos", "add chain inet chaos out { type filter hook output priority 0; }")
        yield


def nft(*commands):
    subprocess.run(["nft", "-f", "-"], input="".join(f"{command}\n" for command in commands), text=True, check=True,
                   timeout=30)


@pytest.fixture(scope="module")
def data():
    source = random.Random(2)
    return b"".join(source.randbytes(1_000_000) for _ in range(MEGABYTES))


@pytest.fixture(scope="module")
def large_origin(network, data):
    origin = Http(data)
    yield origin
    origin.stop()


class Front:
    """A HAProxy that passes TCP on: what stands between a client and its server, and may die or freeze."""

    def __init__(self, lab, address, port, server_port):
        self.lab, self.address, self.port = lab, address, port
        self.config = lab.path("relay.cfg")
        self.config.write_text(f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen relay
  bind {address}:{port}
  server tunnel 127.0.0.1:{server_port}
""")
        self.process = None
        self.start()

    def start(self):
        self.process = self.lab.start("relay", "haproxy", "-db", "-f", self.config)

    def kill(self):
        os.kill(self.process.child.pid, signal.SIGKILL)
        self.process.child.wait(10)
        self.start()

    def reset(self):
        """What the client sends is answered with RST, until it has no connection here any more."""
        nft(f"add rule inet chaos out ip daddr {self.address} tcp dport {self.port} reject with tcp reset")
        with contextlib.suppress(AssertionError):  # it may have nothing to send
            wait_until(lambda: not self.connected(), timeout=1, what="the connection to be reset")
        nft("flush chain inet chaos out")

    def connected(self):
        return subprocess.run(["ss", "-Htn", "state", "established", "dst", f"{self.address}:{self.port}"], check=True,
                              timeout=30, stdout=subprocess.PIPE).stdout

    def freeze(self, seconds):
        os.kill(self.process.child.pid, signal.SIGSTOP)
        # One that is killed meanwhile is another process then.
        frozen = self.process
        thaw = threading.Timer(seconds, lambda: frozen.child.poll() is None and frozen.child.send_signal(signal.SIGCONT))
        thaw.daemon = True
        thaw.start()


class Chaos:
    """Every so often something happens to a random relay, until stop()."""

    def __init__(self, fronts, every, seed):
        self.fronts, self.every = fronts, every
        self.happened = {"kill": 0, "reset": 0, "freeze": 0}
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(self.every):
            front = self._random.choice(self.fronts)
            what = self._random.choice(["kill", "kill", "reset", "reset", "freeze"])
            if what == "freeze":
                front.freeze(3)
            else:
                getattr(front, what)()
            self.happened[what] += 1

    def stop(self):
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def through_fronts(lab):
    """A server, and a client whose three channels go through a relay each."""
    server = lab.server()
    port = free_port()
    fronts = [Front(lab, address, port, server.port) for address in ADDRESSES]
    client = lab.client(port, "-ip", ",".join(ADDRESSES), config=server.config, pin_address=False, up=False)
    client.process.wait_log(r"channel \d+ up:", count=3, timeout=30)
    yield server, client, fronts
    for front in fronts:  # a frozen process does not take SIGTERM
        with contextlib.suppress(ProcessLookupError):
            front.process.child.send_signal(signal.SIGCONT)


def curl(*arguments):
    return subprocess.Popen(["curl", "--silent", "--show-error", "--fail", "--noproxy", "", "--max-time", "200",
                             *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def transfer(client, origin, data, folder):
    """All of it down and up at once."""
    proxy = ["--socks5-hostname", f"127.0.0.1:{client.port}"]
    part, fetched = folder / "part", folder / "fetched"
    part.write_bytes(data)
    url = f"http://127.0.0.1:{origin.port}"
    down, up = curl(*proxy, "-o", fetched, f"{url}/blob"), curl(*proxy, "-T", part, f"{url}/up")
    return down, up, fetched, sha256(data)


def check(down, up, fetched, digest):
    answer, problems = up.communicate(timeout=220)
    assert up.returncode == 0, problems.decode()
    assert answer.decode() == digest
    _, problems = down.communicate(timeout=220)
    assert down.returncode == 0, problems.decode()
    assert sha256(fetched.read_bytes()) == digest
    fetched.unlink()


def test_channels_die_every_200_ms(lab, through_fronts, large_origin, data, tmp_path):
    server, client, fronts = through_fronts
    down, up, fetched, digest = transfer(client, large_origin, data, tmp_path)
    chaos = Chaos(fronts, 0.2, seed=7)
    try:
        check(down, up, fetched, digest)
    finally:
        chaos.stop()
    assert min(chaos.happened.values()) > 0, chaos.happened
    assert client.process.counters()["streams_moved"] > 0
    wait_until(lambda: client.process.counters()["streams_open"] == 0, what="no stream left at the client")
    wait_until(lambda: server.process.counters()["streams_open"] == 0, timeout=60, what="no stream left at the server")


def test_server_stops_for_5_seconds(lab, through_fronts, large_origin, data, tmp_path):
    server, client, _ = through_fronts
    down, up, fetched, digest = transfer(client, large_origin, data, tmp_path)
    wait_until(lambda: client.process.counters()["bytes_from_target"] > 10_000_000, what="the transfer to run")
    server.process.child.send_signal(signal.SIGSTOP)
    time.sleep(5)
    server.process.child.send_signal(signal.SIGCONT)
    check(down, up, fetched, digest)
    assert "channel" not in "\n".join(line for line in client.process.log().splitlines() if "frozen" in line)


def lose_all(fronts, seconds):
    """Nothing gets through for a while."""
    for front in fronts:
        os.kill(front.process.child.pid, signal.SIGKILL)
        front.process.child.wait(10)
    time.sleep(seconds)
    for front in fronts:
        front.start()


def test_no_channel_for_10_seconds(lab, through_fronts, large_origin, data, tmp_path):
    _, client, fronts = through_fronts
    down, up, fetched, digest = transfer(client, large_origin, data, tmp_path)
    wait_until(lambda: client.process.counters()["bytes_from_target"] > 10_000_000, what="the transfer to run")
    lose_all(fronts, 10)
    check(down, up, fetched, digest)


def test_no_channel_for_60_seconds(lab, through_fronts):
    """Longer than a session waits: both ends are told, and what comes next works."""
    server, client, fronts = through_fronts
    origin = lab.origin(echo)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"
        lose_all(fronts, 60)
        sock.settimeout(5 * SLOWNESS)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        wait_until(lambda: origin.open == 0, what="the stream to end at the server")
    client.process.wait_log(r"channel \d+ up:", count=4, timeout=60)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"again")
        assert apps.receive_exactly(sock, 5) == b"again"
    for process in (client.process, server.process):
        wait_until(lambda process=process: process.counters()["streams_open"] == 0, what="no stream left")
