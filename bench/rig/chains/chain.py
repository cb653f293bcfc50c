"""What every tunnel under measurement is to the rig: a client that forwards a port, and a server that it talks to."""

import dataclasses
import itertools
import pathlib
import shutil

from rig.processes import Process

# One cipher suite for everybody.
CIPHER_SUITE = "TLS_AES_128_GCM_SHA256"
SERVER_NAME = "bench.test"


@dataclasses.dataclass
class Setting:
    """What a chain is given. All files of the run live in `folder`."""
    folder: pathlib.Path
    ours: pathlib.Path          # the ech-tunnel binary
    certificate: pathlib.Path   # for SERVER_NAME, self-signed: trust anchor and server certificate in one
    key: pathlib.Path
    client_cores: frozenset
    server_cores: frozenset
    channels: int               # of those that multiplex
    ports: itertools.count      # the namespace is ours alone: any port is free
    far_namespace: int | None = None      # where server and target run, when it is another one (namespace.join())
    server_address: str = "127.0.0.1"     # where clients find the server

    @property
    def build_dir(self):
        return self.ours.parents[1]


class Chain:
    """Started once for a measure and stopped after it."""

    name = ""        # on the command line and in JSON
    title = ""       # in the report
    packages = ""    # what to install when it is not there
    offers_socks = False

    def __init__(self, setting, target_port):
        self.setting, self.target_port = setting, target_port
        self.folder = setting.folder / f"{self.name}-{next(setting.ports)}"
        self.folder.mkdir()
        self.entry_host, self.entry_port = "127.0.0.1", next(setting.ports)
        self.socks_port = next(setting.ports) if self.offers_socks else None
        self.processes = []

    @classmethod
    def program(cls, setting):
        """The path of its program, or None when it is not installed."""
        raise NotImplementedError

    @classmethod
    def version(cls, program):
        """One line."""
        raise NotImplementedError

    def start(self):
        """Starts its processes; returns when entry_port is served and the way to the server is up."""
        raise NotImplementedError

    def spawn(self, role, *argv):
        cores = self.setting.client_cores if role == "client" else self.setting.server_cores
        where = None if role == "client" else self.setting.far_namespace
        process = Process(role, argv, self.folder / f"{role}.log", cores, where)
        self.processes.append(process)
        return process

    @property
    def entry(self):
        """Where the application connects to, for the load generator."""
        return ["--host", self.entry_host, "--port", self.entry_port]

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def stop(self):
        while self.processes:
            self.processes.pop().stop()


def find(*names):
    """The first of the programs that is installed; daemons are often outside an ordinary user's PATH."""
    for name in names:
        if path := shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin"):
            return path
    return None
