"""Fixtures of the end-to-end tests: real processes of the program in ECH_TUNNEL_BIN, on loopback, on free ports.

`lab` starts servers, clients, origins and relays, and takes all of them down again; a test that uses it runs once on
each backend unless it is marked one_backend, with the protocol that client and server agree on, mux/2; and once more
with the legacy one, on one of the backends, unless it is marked with the only protocol that it is about. Whatever a process wrote is shown when the test fails, and a sanitizer's
report or a crash fails the test whatever it was about.
"""

import base64
import ctypes
import os
import pathlib
import random
import subprocess
import zlib

import pytest

import ech_bytes
from origins import Http, Origin
from pki import HIDDEN, PUBLIC, Pki
from procs import REPORTS, Process, free_port
from relay import Relay

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = "correct-horse-battery"
BLOB_BYTES = 100 * 1000 * 1000


def kernel_grants_io_uring():
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(425, 1, ctypes.create_string_buffer(120))
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


def pytest_generate_tests(metafunc):
    if "backend" not in metafunc.fixturenames:
        return
    once = metafunc.definition.get_closest_marker("one_backend")
    backends = ["auto"] if once else ["io_uring", "epoll"]
    only = metafunc.definition.get_closest_marker("protocol")
    if only:
        variants = [f"{backend}{'-legacy' if only.args == ('legacy',) else ''}" for backend in backends]
    else:
        # Which backend the third run is on differs from test to test, and is the same every time.
        name = f"{metafunc.module.__name__}.{metafunc.definition.name}"
        variants = backends + [f"{backends[zlib.crc32(name.encode()) % len(backends)]}-legacy"]
    metafunc.parametrize("backend", variants)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if lab and report.failed:
        for process in lab.processes:
            report.sections.append((f"{process.log_path.name}, exit {process.child.poll()}",
                                    "\n".join(process.log().splitlines()[-40:])))


@pytest.fixture(scope="session")
def binary():
    path = os.environ.get("ECH_TUNNEL_BIN", str(ROOT / "build" / "release" / "tools" / "ech-tunnel"))
    assert os.access(path, os.X_OK), f"{path} is not there: build it, or set ECH_TUNNEL_BIN"
    return path


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def blob():
    return random.Random(1).randbytes(BLOB_BYTES)


@pytest.fixture(scope="session")
def http_origin(blob):
    origin = Http(blob)
    yield origin
    origin.stop()


class Server:
    def __init__(self, process, port, keys):
        self.process, self.port, self.keys = process, port, keys

    @property
    def config(self):
        """The ECHConfigList it publishes, in base64."""
        return ech_bytes.read_pem_folder(self.keys)


class Client:
    def __init__(self, process, port):
        self.process, self.port = process, port


class Lab:
    def __init__(self, folder, binary, backend, pki):
        self.folder, self.binary, self.pki = folder, binary, pki
        self.backend, _, self.protocol = backend.partition("-")
        self.processes = []
        self._helpers = []
        self._names = 0

    def path(self, name):
        self._names += 1
        return self.folder / f"{self._names}-{name}"

    def start(self, name, *argv, env=None):
        """Starts a program (the one under test has its path put in front by run())."""
        process = Process(argv, self.path(f"{name}.log"), env)
        self.processes.append(process)
        return process

    def run(self, name, *arguments, env=None):
        return self.start(name, self.binary, *arguments, "-backend", self.backend, env=env)

    def keep(self, helper):
        """Has helper.stop() called at the end."""
        self._helpers.append(helper)
        return helper

    def origin(self, handler):
        return self.keep(Origin(handler))

    def relay(self, port):
        return self.keep(Relay(port))

    def keygen(self, public_name=PUBLIC):
        folder = self.path("ech-keys")
        folder.mkdir()
        subprocess.run([self.binary, "ech-keygen", "-public-name", public_name, "-out", folder], check=True, timeout=30,
                       stdout=subprocess.DEVNULL)
        return folder

    def server(self, *extra, port=None, path="/tunnel", token=TOKEN, keys=None, allow=True, cert=None, name=HIDDEN):
        """A tunnel server that may connect to loopback; waits until it listens."""
        port = port or free_port()
        keys = keys or self.keygen()
        state = self.path("server-state")
        state.mkdir()
        chain, key = cert or (self.pki.cert, self.pki.key)
        arguments = ["-l", f"wss://127.0.0.1:{port}{path}", "-cert", chain, "-key", key, "-name", name, "-ech-keys",
                     keys, "-ech-public-name", PUBLIC, "-state", state]
        if token:
            arguments += ["-token", token]
        if allow:
            arguments += ["-allow-target", "127.0.0.0/8:*"]
        process = self.run("server", *arguments, *extra)
        process.wait_log(r"listening on wss://")
        return Server(process, port, keys)

    def client(self, server_port, *extra, config=None, listen=None, port=None, channels=1, token=TOKEN, up=True,
               pin_address=True, path="/tunnel", ca=None, env=None, state=None):
        """A client with a proxy:// listener, or `listen` with {port} in it. `config`: an ECHConfigList in base64, or
        None when `extra` says how to come by one. Waits until it listens and, with `up`, until its channels are up."""
        port = port or free_port()
        if state is None:
            state = self.path("client-state")
            state.mkdir()
        arguments = ["-l", (listen or "proxy://127.0.0.1:{port}").format(port=port), "-f",
                     f"wss://{HIDDEN}:{server_port}{path}", "-ca", ca or self.pki.ca, "-n", channels, "-state", state]
        if pin_address:
            arguments += ["-ip", "127.0.0.1"]
        if token:
            arguments += ["-token", token]
        if config:
            arguments += ["-ech-config", config]
        if self.protocol and "-proto" not in extra:
            arguments += ["-proto", self.protocol]
        process = self.run("client", *arguments, *extra, env=env)
        process.wait_log(r"listening on (proxy|tcp|udp)://")
        if up:
            process.wait_log(r"channel \d+ up:", count=channels)
        return Client(process, port)

    def pair(self, *client_extra, server_extra=(), **client_options):
        """A server and a client whose channels are up with ECH."""
        server = self.server(*server_extra)
        client = self.client(server.port, *client_extra, config=server.config, **client_options)
        return server, client

    def stop(self):
        problems = []
        for process in reversed(self.processes):
            status = process.stop()
            log = process.log()
            if report := REPORTS.search(log):
                problems.append(f"{process.log_path.name}: {log[report.start():][:4000]}")
            elif status < 0 and process.argv[0] == self.binary:
                problems.append(f"{process.log_path.name}: ended by signal {-status}\n{log[-2000:]}")
        # Last: what a process still has to say goes through them.
        for helper in reversed(self._helpers):
            helper.stop()
        assert not problems, "\n".join(problems)


@pytest.fixture
def lab(tmp_path, binary, backend, pki):
    if backend.startswith("io_uring") and not kernel_grants_io_uring():
        pytest.skip("the kernel refuses io_uring here")
    bench = Lab(tmp_path, binary, backend, pki)
    yield bench
    bench.stop()


@pytest.fixture
def stale_config():
    """An ECHConfigList with the right public name for a key the server does not have."""
    return base64.b64encode(ech_bytes.Key(PUBLIC).config_list).decode()


def pytest_make_parametrize_id(config, val, argname):
    """Bytes may hold fresh random masks, and every worker must give a test the same name."""
    return argname if isinstance(val, bytes) else None
