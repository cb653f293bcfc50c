"""ech-tunnel's own pair: TLS 1.3 with ECH, WebSocket, streams multiplexed on channels."""

import os
import re
import subprocess

from rig.chains.chain import SERVER_NAME, Chain
from rig.processes import Failure

PUBLIC_NAME = "cover.test"
TOKEN = "benchmark"


class Ours(Chain):
    offers_socks = True
    backend = ""
    channels = None   # of the client; the setting's where it is None

    @classmethod
    def program(cls, setting):
        return setting.ours if os.access(setting.ours, os.X_OK) else None

    @classmethod
    def version(cls, program):
        output = subprocess.run([program, "version"], capture_output=True, text=True, timeout=10, check=True).stdout
        return ", ".join(" ".join(line.split()) for line in output.splitlines()[:3])

    def start(self):
        program = self.program(self.setting)
        between, address = next(self.setting.ports), self.setting.server_address
        if self.channels is None:
            self.channels = self.setting.channels
        keys, server_state, client_state = (self.folder / name for name in ("keys", "server", "client"))
        for folder in (keys, server_state, client_state):
            folder.mkdir()
        ech_config = self._make_ech_keys(program, keys)
        server = self.spawn(
            "server", program, "-l", f"wss://{address}:{between}/tunnel", "-cert", self.setting.certificate, "-key",
            self.setting.key, "-name", SERVER_NAME, "-ech-keys", keys, "-ech-public-name", PUBLIC_NAME, "-require-ech",
            "-allow-target", "127.0.0.0/8:*", "-token", TOKEN, "-backend", self.backend, "-state", server_state)
        server.wait_listening(between)
        client = self.spawn(
            "client", program, "-l", f"tcp://127.0.0.1:{self.entry_port}/127.0.0.1:{self.target_port}", "-l",
            f"proxy://127.0.0.1:{self.socks_port}", "-f", f"wss://{SERVER_NAME}:{between}/tunnel", "-ip", address,
            "-ca", self.setting.certificate, "-ech-config", ech_config, "-token", TOKEN, "-n", self.channels,
            "-backend", self.backend, "-state", client_state)
        client.wait_listening(self.entry_port, self.socks_port)
        client.wait_log(r"channel \d+ up:.*ECH accepted", count=self.channels)

    @staticmethod
    def _make_ech_keys(program, folder):
        """Returns the ECHConfigList in base64."""
        subprocess.run([program, "ech-keygen", "-public-name", PUBLIC_NAME, "-out", folder], check=True, timeout=30,
                       stdout=subprocess.DEVNULL)
        for path in folder.iterdir():
            found = re.search(r"-----BEGIN ECHCONFIG-----(.*?)-----END ECHCONFIG-----",
                              path.read_text(encoding="ascii"), re.DOTALL)
            if found:
                return "".join(found.group(1).split())
        raise Failure("ech-keygen made no ECHConfigList")


class OursIoUring(Ours):
    name = "ours-io_uring"
    title = "ech-tunnel, io_uring"
    backend = "io_uring"


class OursEpoll(Ours):
    name = "ours-epoll"
    title = "ech-tunnel, epoll"
    backend = "epoll"
